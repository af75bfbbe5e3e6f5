"""`synthetic` for phase 3: scenes of coloured shapes, with captions from a grammar."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.data import scene_captions
from common.data.captions import CaptionData
from common.data.checks import drawn_count
from common.data.scene_captions import COLOURS, HELD_OUT, SHAPES, SIZES, Scene, SceneObject, pick

HELD_OUT_EVERY = 5  # every fifth scene of the test split has one of them

COUNTS = {"train": 6_000, "dev": 500, "test": 1_000}
# What the last axis of `scene_labels` stands for.
LABELS = ("presence", *SHAPES, *COLOURS, *SIZES)

# Scenes are made in blocks with a seed each: a short set is the beginning of a long one.
_BLOCK = 100
BACKGROUNDS = {"dark": (20, 70), "light": (170, 230)}  # grey levels
_OBJECTS = 3  # at most
_OBJECT_SHARES = (0.2, 0.4, 0.4)  # of scenes with one, two and three objects
_WIDTH = 48  # lengths of the drawing are in 48ths of the image
_PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
_SEEN = [pair for pair in _PAIRS if pair not in HELD_OUT]


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneData(CaptionData):
    """Scenes with their captions.

    Args:
        pixels: `uint8` (N, size, size, 3).
        scenes: What is in each picture.
        held_out: bool (N,): whether the scene has a combination that is never trained on.
    """

    pixels: np.ndarray = field(repr=False)
    scenes: tuple[Scene, ...] = field(repr=False)
    held_out: np.ndarray = field(repr=False)

    _per_image = ("names", "captions", "pixels", "scenes", "held_out")

    def _problem(self) -> str | None:
        for name in ("pixels", "scenes", "held_out"):
            if len(getattr(self, name)) != len(self.names):
                return f"{len(self.names)} names, but {len(getattr(self, name))} {name}."
        return super()._problem()

    def read_image(self, i: int) -> np.ndarray:
        """The pixels of image `i`, uint8 (size, size, 3)."""
        return self.pixels[i]


def synthetic_scenes(
    split: str, n: int | None = None, *, size: int = 48, seed: int = 0
) -> SceneData:
    """Draws `n` scenes and writes five captions of each.

    A scene has one to three shapes, each in another cell of a 3x3 grid. Place, size, tilt, colour
    and brightness vary a little, the background is light or dark, shaded and noisy. Four of the
    24 pairs of colour and shape are in no scene of train and dev, but in every fifth one of test:
    only who tells colour from shape, and composes words, describes them.

    The grammar, with alternatives in braces and what may be left out in brackets:

        CAPTION:  [FRAME] a THING PLACE
                  PLACE {is, there is, we see} a THING
                  the THING is PLACE
                  [FRAME] a THING RELATION a THING
                  the THING is RELATION the THING
                  [FRAME] a THING with a THING RELATION it
                  [FRAME] a THING and a THING
                  one {shape, figure} a THING PLACE
                  COUNT one of them a THING PLACE
                  COUNT a THING [a THING] and a THING
        THING:    [SIZE] COLOUR SHAPE
        FRAME, COUNT, SIZE, COLOUR, SHAPE, PLACE, RELATION: the words in `scene_captions`

    Every caption names an object by colour and shape and says more than that of it: whatever
    the grammar allows is false of most scenes. "A" and "the" mean the same: there is such an
    object. Two things in one caption are two objects. "Above" and "left of" compare thirds of the
    picture; "next to" is side by side in a row. People differ in what they mention, and so do the
    five captions; a large object is mentioned rather than a small one.

    Shares of true captions over the test split (n = 1,000): the most frequent training caption,
    always, 4.0 %; a random training caption 0.7 %; the captions of the training image whose
    pixels are nearest 20 % (mean of its five).

    Args:
        split: "train", "dev" or "test".
        n: How many scenes; by default 6,000, 500 and 1,000.
        size: Height and width in pixels, at least 24.
        seed: Another number draws another data set of the same kind.

    Raises:
        ConfigError: if the split is unknown, or `n` or `size` too small.
    """
    n = drawn_count(split, n, COUNTS, size, smallest=24)
    scenes, captions, pixels = [], [], []
    for block in range(-(-n // _BLOCK)):
        # Drawing and writing have generators of their own: other words leave the pixels alone.
        seeds = ([seed, list(COUNTS).index(split), block, part] for part in range(3))
        compose, draw, write = map(np.random.default_rng, seeds)
        held_out = range(HELD_OUT_EVERY - 1, _BLOCK, HELD_OUT_EVERY) if split == "test" else ()
        block_scenes = [_compose(compose, i in held_out) for i in range(_BLOCK)]
        scenes += block_scenes
        pixels.append(_draw_block(draw, block_scenes, size))
        described = block_scenes[: n - block * _BLOCK]
        captions += [scene_captions.write(write, scene) for scene in described]
    return SceneData(
        names=tuple(f"{split}-{i:05}.png" for i in range(n)),
        captions=tuple(captions),
        name="synthetic",
        split=split,
        pixels=np.concatenate(pixels)[:n],
        scenes=tuple(scenes[:n]),
        held_out=np.array([scene.held_out for scene in scenes[:n]]),
    )


def scene_labels(scenes: Sequence[Scene]) -> np.ndarray:
    """What stands in each third of the scenes' height and width, 0 or 1, in the order of `LABELS`.

    Returns:
        float32 (N, 3, 3, 13).
    """
    labels = np.zeros((len(scenes), 3, 3, len(LABELS)), np.float32)
    for scene, cells in zip(scenes, labels, strict=True):
        for thing in scene.objects:
            for word in ("presence", thing.shape, thing.colour, thing.size):
                cells[thing.row, thing.column, LABELS.index(word)] = 1
    return labels


# ------------------------------------------------------------------ scenes and their pixels


def _compose(rng: np.random.Generator, held_out: bool) -> Scene:
    count = 1 + rng.choice(_OBJECTS, p=_OBJECT_SHARES)
    pairs = [pick(rng, _SEEN) for _ in range(count)]
    if held_out:
        pairs[0] = pick(rng, HELD_OUT)
    cells = rng.choice(9, count, replace=False).tolist()
    objects = tuple(
        SceneObject(colour, shape, pick(rng, tuple(SIZES)), *divmod(cell, 3))
        for (colour, shape), cell in zip(pairs, cells, strict=True)
    )
    return Scene(objects, pick(rng, tuple(BACKGROUNDS)))


def _draw_block(rng: np.random.Generator, scenes: list[Scene], size: int) -> np.ndarray:
    """Images (scenes, size, size, 3). While drawing, channels come first.

    Apart from the angles, which are rounded, only operations that IEEE 754 defines exactly:
    every platform draws the same pixels.
    """
    canvas = _background(rng, scenes, size)
    y, x = np.float32(_WIDTH / size) * (np.mgrid[:size, :size].astype(np.float32) + 0.5)
    for scene, image in zip(scenes, canvas, strict=True):
        for thing in scene.objects:
            radius = np.float32(rng.uniform(*SIZES[thing.size]))
            third = _WIDTH / 3
            play = third / 2 - radius + 0.5  # the shape stays in its cell, but for half a pixel
            row, column = (
                np.float32((cell + 0.5) * third + rng.uniform(-play, play)) for cell in thing.cell
            )
            angle = rng.uniform(-0.2, 0.2)
            cosine, sine = (np.float32(np.rint(f(angle) * 1024) / 1024) for f in (np.cos, np.sin))
            # Only the pixels around the shape are touched.
            reach = (radius + 4) * size / _WIDTH
            rows, columns = (
                slice(max(0, int(c * size / _WIDTH - reach)), int(c * size / _WIDTH + reach) + 1)
                for c in (row, column)
            )
            down, right = y[rows, columns] - row, x[rows, columns] - column
            distance = _DISTANCES[thing.shape](
                cosine * right + sine * down, cosine * down - sine * right, radius
            )
            coverage = np.clip(np.float32(0.5) - distance * np.float32(size / _WIDTH), 0, 1)
            part = image[:, rows, columns]
            part += coverage * (_colour(rng, thing.colour)[:, None, None] - part)
    canvas += rng.uniform(3, 14, (len(scenes), 1, 1, 1)).astype(np.float32) * rng.standard_normal(
        canvas.shape, dtype=np.float32
    )
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _background(rng: np.random.Generator, scenes: list[Scene], size: int) -> np.ndarray:
    """Grey with a tint, brighter to one side; (scenes, 3, size, size)."""
    ranges = np.array([BACKGROUNDS[scene.background] for scene in scenes], np.float32)
    grey = rng.uniform(ranges[:, 0], ranges[:, 1])[:, None] + rng.uniform(-12, 12, (len(scenes), 3))
    slope = rng.uniform(-30, 30, (2, len(scenes), 1, 1, 1)).astype(np.float32)
    along = np.linspace(-1, 1, size, dtype=np.float32)
    shaded = grey.astype(np.float32)[:, :, None, None] + slope[0] * along[:, None]
    return shaded + slope[1] * along[None, :]


def _colour(rng: np.random.Generator, name: str) -> np.ndarray:
    """The colour as it appears in one scene, brighter or darker, float32 (3,)."""
    brightness = rng.uniform(0.8, 1.1)
    return (brightness * np.array(COLOURS[name]) + rng.uniform(-12, 12, 3)).astype(np.float32)


# Signed distances (negative inside) of shapes around 0, `r` half their width.
def _circle(x, y, r):
    return np.sqrt(x * x + y * y) - r


def _square(x, y, r):
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.9) * r


def _triangle(x, y, r):
    """Its point up, 2.1 r wide and 1.8 r high."""
    y = y - np.float32(0.3) * r
    sides = np.float32(0.866) * np.abs(x) - np.float32(0.5) * y
    return np.maximum(sides, y) - np.float32(0.6) * r


def _cross(x, y, r):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y), np.minimum(x, y) + np.float32(0.68) * r) - r


_DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}
