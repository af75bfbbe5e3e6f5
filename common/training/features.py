"""Features of all images of a data set, extracted once into a memory map on disk."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import keras
import numpy as np

from common.data.captions import CaptionData
from common.data.image_files import one_opencv_thread
from common.data.image_hashes import image_hashes
from common.data.listing import in_lines
from common.errors import DataError
from common.files import (
    flush_to_disk,
    hold,
    not_written,
)
from common.models.backbones import weights_hash
from common.paths import outputs_dir
from common.progress import progress_bar
from common.training.backend import compiled_method
from common.training.feature_files import FeatureKey, KeptFeatures, digest, images_hash
from common.training.runs import slug

logger = logging.getLogger(__name__)

BATCH = 64


@dataclass(frozen=True, eq=False)
class Features:
    """Features of images, with where they come from.

    Attributes:
        array: float16 `(images, height * width, channels)`; a read-only memory map.
        key: What they are of.
        folder: Where they are kept.
        bad: Reasons why images could not be read, by name; their rows are 0.
        names: Of the images.
    """

    array: np.ndarray
    key: FeatureKey
    folder: Path
    names: tuple[str, ...]
    bad: dict[str, str] = field(default_factory=dict)

    def usable(self) -> np.ndarray:
        """Numbers of the images that could be read."""
        return np.array([i for i, name in enumerate(self.names) if name not in self.bad], int)

    def require(self, backbone: str, weights: str) -> None:
        """Makes sure that the features are of this backbone and these weights.

        Raises:
            DataError: if they are not.
        """
        require_backbone((self.key.backbone, self.key.weights), (backbone, weights))


def require_backbone(found: tuple[str, str], wanted: tuple[str, str]) -> None:
    """Compares names and weight hashes of two backbones.

    Raises:
        DataError: if they differ: a decoder cannot read the features of another backbone.
    """
    if found[0] != wanted[0]:
        raise DataError(
            f"The features are of the backbone {found[0]}, but those of {wanted[0]} are wanted: "
            "extract them with that backbone."
        )
    if found[1] != wanted[1]:
        raise DataError(
            f"The features are of {found[0]} with other weights (hash {found[1]}) than those "
            f"wanted ({wanted[1]}): a decoder only understands what it was trained on. Load the "
            "same weights, or train anew."
        )


def to_input(image: np.ndarray, size: int) -> np.ndarray:
    """An image of any size as a backbone takes it: squashed to a square, nothing cut off.

    Args:
        image: uint8 `(H, W, 3)`.
        size: Height and width of the result in pixels.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    # Averages over areas keep fine patterns from turning into coarse ones.
    shrinks = height > size or width > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


class Extractor:
    """A backbone, compiled for batches of one size.

    Args:
        backbone: From uint8 `(B, size, size, 3)` to `(B, h, w, channels)`.
        batch_size: Images at a time; the last batch is filled up, so that a feature does not
            depend on how many images there are.
    """

    def __init__(self, backbone: keras.Model, batch_size: int = BATCH):
        self.backbone = backbone
        self.size = backbone.input_shape[1]
        self.shape = tuple(backbone.output_shape[1:])
        self.batch_size = batch_size
        self._compiled = compiled_method(
            lambda images: backbone(images, training=False), backbone.variables
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features float32 `(n, h * w, channels)` of at most `batch_size` images."""
        count = len(images)
        missing = self.batch_size - count
        if missing:
            images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        found = keras.ops.convert_to_numpy(self._compiled(images))[:count]
        return found.reshape(count, -1, found.shape[-1]).astype("float32")


def extract_features(
    data: CaptionData,
    backbone: keras.Model,
    name: str | None = None,
    *,
    mirrored: bool = False,
    root: Path | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> Features:
    """Features of all images of a data set; what is extracted already is not done again.

    They are kept under `outputs/features`, found again by the images' contents, and taken from
    there for other sets with the same images, too. A call that was killed is gone on with at the
    batch where it stopped. What is damaged is noticed and extracted anew. Images that cannot be
    read are passed over and listed at the end; the next call tries them again.

    Args:
        data: The images.
        backbone: From `common.models.backbones` or one like it.
        name: Of the backbone; by default the model's own.
        mirrored: Of the images mirrored left to right.
        root: Where to keep them.
        batch_size: Images at a time.
        progress: Show a progress bar.

    Raises:
        DataError: if not one image can be read.
        CourseError: if the disk is too small.
    """
    extractor = Extractor(backbone, batch_size)
    hashes = image_hashes(data)
    key = FeatureKey(
        name or backbone.name,
        weights_hash(backbone),
        extractor.shape,
        images_hash(zip(data.names, hashes, strict=True)),
        mirrored,
    )
    root = outputs_dir() / "features" if root is None else Path(root)
    folder = root / (
        f"{slug(data.name)[:40]}-{data.split}-{key.backbone}-"
        f"{digest([json.dumps(key.to_dict(), sort_keys=True)])}"
    )
    kept = KeptFeatures(folder, key, data.names, hashes)
    if not kept.is_whole():
        # Two processes that want the same features: the second one waits and finds them.
        with hold(folder / ".lock", f"extracts features of {data.name} ({data.split})"):
            try:
                kept.open()
                _extract(data, extractor, kept, mirrored, progress)
            except OSError as error:
                raise not_written(folder / "features.npy", error) from error
    features = Features(kept.read(), key, folder, data.names, kept.state["bad"])
    if features.bad:
        listed = [f"{image}: {why}" for image, why in features.bad.items()]
        what = f"{data.name} ({data.split}): {len(listed)} of {len(data)} images have no features:"
        if len(listed) == len(data):
            raise DataError(in_lines(what, listed) + "\nRestore the files and run the same again.")
        advice = "They are left out. Restore the files and run the same again."
        logger.warning("%s\n%s", in_lines(what, listed), advice)
    return features


def _extract(data, extractor, kept, mirrored, progress) -> None:
    state = kept.state
    # Whole batches from a multiple of their size: killed or not, each image meets the same ones.
    batches = [
        range(start, min(start + extractor.batch_size, len(data)))
        for start in range(state["done"], len(data), extractor.batch_size)
    ]
    position = {image: i for i, image in enumerate(data.names)}
    bad = [
        position[image] for image in state["bad"] if position.get(image, len(data)) < state["done"]
    ]
    again = sorted({*bad, *kept.damaged})
    if not batches and not again:
        kept.save(whole=True)
        return
    known = kept.others() if batches else {}
    unknown = [[i for i in batch if kept.hashes[i] not in known] for batch in batches]
    with (
        open(kept.path, "r+b") as file,
        one_opencv_thread(),
        ThreadPoolExecutor(2) as pool,
        progress_bar(
            total=len(data),
            initial=state["done"],
            description=f"features of {data.name} ({data.split})",
            unit=" images",
            disable=not progress or not batches,
        ) as bar,
    ):
        for start in range(0, len(again), extractor.batch_size):
            numbers = again[start : start + extractor.batch_size]
            images, problems = _read(data, extractor.size, numbers, mirrored, pool)
            _keep(data, extractor, kept, file, numbers, images, problems)
        if again:
            file.flush()
            kept.checksums(again)
            kept.save()
        read = _ahead(data, extractor.size, unknown, mirrored, pool)
        for batch, (numbers, (images, problems)) in zip(batches, read, strict=True):
            copied = [i for i in batch if kept.hashes[i] in known]
            kept.write(file, copied, np.array([known[kept.hashes[i]] for i in copied], "float16"))
            if numbers:
                _keep(data, extractor, kept, file, numbers, images, problems)
            file.flush()
            state["blocks"].append([batch[0], batch[-1] + 1, 0])
            kept.checksums([batch[0]])
            state["done"] = batch[-1] + 1
            kept.save()
            bar.update(len(batch))
        flush_to_disk(file)
    kept.save(whole=True)


def _keep(data, extractor, kept, file, numbers, images, problems) -> None:
    rows = extractor(images).astype("float16")
    for place, i in enumerate(numbers):
        if i in problems:
            rows[place] = 0
            kept.state["bad"][data.names[i]] = problems[i]
        else:
            kept.state["bad"].pop(data.names[i], None)
    kept.write(file, numbers, rows)


def _ahead(data, size, batches, mirrored, pool) -> Iterator:
    """Each batch with its images; the next one is read while this one is computed."""
    with ThreadPoolExecutor(1) as reader:
        futures = []
        for batch in batches[:2]:
            futures.append(reader.submit(_read, data, size, batch, mirrored, pool))
        for i, batch in enumerate(batches):
            result = futures.pop(0).result()
            if i + 2 < len(batches):
                futures.append(reader.submit(_read, data, size, batches[i + 2], mirrored, pool))
            yield batch, result


def _read(data, size, numbers, mirrored, pool) -> tuple[np.ndarray, dict[int, str]]:
    images = np.zeros((len(numbers), size, size, 3), "uint8")
    problems = {}

    def read(place: int) -> None:
        i = numbers[place]
        try:
            image = to_input(data.read_image(i), size)
        except DataError as error:
            problems[i] = str(error).removeprefix(f"{_path_of(data, i)}: ").removesuffix(".")
        else:
            images[place] = image[:, ::-1] if mirrored else image

    list(pool.map(read, range(len(numbers))))
    return images, problems


def _path_of(data, i):
    return data.folder / data.names[i] if data.folder is not None else data.names[i]
