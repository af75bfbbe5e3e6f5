"""`synthetic` for phase 2: stained slides drawn by code, cut into patches, patient by patient."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from common.data.checks import check_count
from common.data.histopathology.slides import CLASSES
from common.data.histopathology.slides import SIZE as PATCH
from common.data.images import ImageData

PATIENTS = 40

# Patches of a slide, of which those with tissue are kept: about 530 of 700.
_ROWS, _COLUMNS = 25, 28
# Optical density of haematoxylin and eosin in red, green and blue: Ruifrok and Johnston (2001).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], np.float32)
# Of benign and of malignant tissue: how far nuclei differ in size (standard deviation of the
# logarithm of the radius), and the share of nuclei with a prominent nucleolus.
_SPREAD = (0.08, 0.34)
_NUCLEOLI = (0.04, 0.35)
_SUBPIXEL = 4  # bits behind the point in the coordinates of OpenCV's drawing


@dataclass(frozen=True)
class _Patient:
    """What differs from patient to patient. Lengths in pixels, stains in optical density."""

    stains: np.ndarray  # (2, 3)
    haematoxylin: float
    eosin: float
    radius: float  # of a benign nucleus
    spacing: float  # from nucleus to nucleus
    angle: float  # of the fibres, radians
    wavelength: float  # of the fibres
    malignant: float  # share of the tissue


def synthetic_slides(patients: int = PATIENTS, *, seed: int = 0) -> ImageData:
    """Draws one slide per patient and cuts it into patches of 50 x 50 pixels.

    A slide has tissue on white glass: fibres, fat, and nuclei. In tumour regions, which are
    contiguous, nuclei are larger and denser than in the benign tissue *of the same patient*, and
    their sizes and shapes vary more. A patch is malignant if more than half of its tissue lies in a
    tumour region; about 28 % are.

    What is normal varies from patient to patient, so that large nuclei in one are small ones in
    another, and so do the stains and the texture of the fibres: a signature by which a network
    can recognise the patient. Where patches of one patient lie on both sides of a split, it pays
    to learn it by heart, and the score is too good. All 40 patients, seed 0: the recipe of profile
    `laptop` reaches 91.0 % F1 on unseen patients and 98.0 % on a random split, a linear model of
    colour histograms 59.5 % and 73.5 % (the README's results; `benchmarks/images.py`).

    Args:
        patients: How many; the first ones are the same however many there are.
        seed: Another number draws other patients of the same kind.

    Returns:
        `ImageData` with images (N, 50, 50, 3), `groups` the patients' names, `positions` in
        pixels of the slide; about 530 patches per patient.

    Raises:
        ConfigError: if there is no patient to draw.
    """
    check_count("patients", patients)
    with ThreadPoolExecutor() as pool:
        slides = list(pool.map(lambda i: _draw_slide(seed, i), range(patients)))
    counts = [len(labels) for _, labels, _ in slides]
    names = np.array([f"synthetic{i:03}" for i in range(1, patients + 1)])
    images, labels, positions = (np.concatenate(parts) for parts in zip(*slides, strict=True))
    return ImageData(
        images=images,
        labels=labels,
        classes=CLASSES,
        name="synthetic",
        split="all",
        groups=np.repeat(names, counts),
        positions=positions,
    )


def _draw_patient(rng: np.random.Generator) -> _Patient:
    stains = _STAINS + rng.normal(0, 0.045, (2, 3)).astype(np.float32)
    return _Patient(
        stains=stains / np.linalg.norm(stains, axis=1, keepdims=True),
        haematoxylin=rng.uniform(0.75, 1.25),
        eosin=rng.uniform(0.35, 0.7),
        radius=rng.uniform(2.6, 4.4),
        spacing=rng.uniform(9.5, 13.5),
        angle=rng.uniform(0, np.pi),
        wavelength=rng.uniform(4.0, 12.0),
        malignant=min(rng.gamma(1.6, 0.22), 0.85),
    )


def _draw_slide(seed: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches (n, 50, 50, 3), labels (n,) and positions (n, 2) of one patient."""
    rng = np.random.default_rng([seed, number])
    patient = _draw_patient(rng)
    height, width = _ROWS * PATCH, _COLUMNS * PATCH
    tissue, fat, tumour = _regions(rng, patient, height, width)
    haematoxylin = _nuclei(rng, patient, tissue & ~fat, tumour)
    eosin = _fibres(rng, patient, height, width)
    eosin[~tissue | fat] = 0.02
    density = (
        patient.haematoxylin * haematoxylin[..., None] * patient.stains[0]
        + patient.eosin * eosin[..., None] * patient.stains[1]
    )
    light = 246 * np.exp(-density)
    light += rng.normal(0, 2.5, light.shape).astype(np.float32)
    slide = np.clip(np.rint(light), 0, 255).astype(np.uint8)

    tissue_share, tumour_share = _patch_means(tissue), _patch_means(tissue & tumour)
    kept = tissue_share > 0.6
    labels = (tumour_share > 0.5 * tissue_share)[kept].astype(np.int32)
    grid = slide.reshape(_ROWS, PATCH, _COLUMNS, PATCH, 3).swapaxes(1, 2)
    rows, columns = np.nonzero(kept)
    positions = np.stack([columns, rows], axis=1).astype(np.int32) * PATCH + 1
    return grid[kept], labels, positions


def _patch_means(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(_ROWS, PATCH, _COLUMNS, PATCH).mean(axis=(1, 3))


def _smooth_field(rng, height: int, width: int, size: float) -> np.ndarray:
    """Noise (height, width) of mean 0 and variance 1 whose hills are `size` pixels wide."""
    small = rng.standard_normal((height // 10, width // 10)).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), size / 10 / 2, borderType=cv2.BORDER_REFLECT)
    field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / field.std()


def _regions(rng, patient, height, width):
    """Masks (height, width): tissue, fat within it, and tumour."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    edge = 1 - (x**4 + y**4)  # a rounded rectangle
    tissue = edge + 0.25 * _smooth_field(rng, height, width, 250) > 0.05
    fat = _smooth_field(rng, height, width, 60) > 2.1
    field = _smooth_field(rng, height, width, 350)
    tumour = field > np.quantile(field[tissue], 1 - patient.malignant)
    return tissue, fat, tumour


def _nuclei(rng, patient, allowed, tumour) -> np.ndarray:
    """Haematoxylin 0..1 (height, width): nuclei on a jittered grid, denser in tumours."""
    height, width = allowed.shape
    canvas = np.zeros((height, width), np.uint8)
    step = 0.85 * patient.spacing
    y, x = np.mgrid[0:height:step, 0:width:step]
    y, x = (v.ravel() + rng.uniform(-0.45, 0.45, v.size) * step for v in (y, x))
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    inside = tumour[y.astype(int), x.astype(int)]
    kept = allowed[y.astype(int), x.astype(int)]
    kept &= rng.random(y.size) < np.where(inside, 0.8, 0.7)
    y, x, inside = y[kept], x[kept], inside[kept]
    count = len(y)
    # In tumours nuclei are larger on average, vary in size and shape, and lie in all directions.
    spread = np.where(inside, _SPREAD[1], _SPREAD[0])
    radius = patient.radius * np.where(inside, 1.2, 1.0) * np.exp(spread * rng.normal(size=count))
    longer = np.exp(np.where(inside, rng.normal(0.15, 0.2, count), rng.normal(0.3, 0.1, count)) / 2)
    angle = patient.angle + np.where(inside, 1.5, 0.25) * rng.normal(size=count)
    depth = np.clip(rng.normal(0.72, 0.1, count), 0.35, 1.0)
    # Prominent nucleoli: the nucleus pale, with a dark spot.
    nucleolus = rng.random(count) < np.where(inside, _NUCLEOLI[1], _NUCLEOLI[0])
    depth *= np.where(nucleolus, 0.7, 1.0)
    scale = 1 << _SUBPIXEL
    centres = np.rint(np.stack([x, y], 1) * scale).astype(int).tolist()
    axes = np.rint(np.stack([radius * longer, radius / longer], 1) * scale).astype(int).tolist()
    degrees, grey = np.rint(np.degrees(angle)).tolist(), np.rint(255 * depth).tolist()
    spots = np.where(nucleolus, np.rint(0.4 * radius * scale), 0).astype(int).tolist()
    for centre, axis, turn, value, spot in zip(centres, axes, degrees, grey, spots, strict=True):
        cv2.ellipse(canvas, centre, axis, turn, 0, 360, value, -1, cv2.LINE_AA, _SUBPIXEL)
        if spot:
            cv2.circle(canvas, centre, spot, 255, -1, cv2.LINE_AA, _SUBPIXEL)
    chromatin = rng.standard_normal((height, width)).astype(np.float32)
    chromatin = cv2.GaussianBlur(chromatin, (0, 0), 0.8)
    soft = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 0.7)
    return soft * (1 + 0.35 * chromatin)


def _fibres(rng, patient, height, width) -> np.ndarray:
    """Eosin around 1 (height, width): noise filtered by a wave along the patient's direction."""
    noise = rng.standard_normal((height, width)).astype(np.float32)
    kernel = cv2.getGaborKernel((15, 15), 3.5, patient.angle, patient.wavelength, 0.4, 0)
    fibres = cv2.filter2D(noise, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT)
    patchy = _smooth_field(rng, height, width, 90)
    return np.maximum(1 + 0.25 * fibres / fibres.std() + 0.15 * patchy, 0.1)
