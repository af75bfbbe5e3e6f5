"""`synthetic` for phase 3: scenes of coloured shapes, captions from a grammar, and their check."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, permutations

import numpy as np

from common.data.captions import CaptionData
from common.data.checks import check_split
from common.errors import ConfigError, DataError

# ------------------------------------------------------------------ what there is in a scene
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {  # red, green and blue, 0..255
    "red": (225, 40, 40),
    "yellow": (240, 220, 40),
    "green": (40, 180, 60),
    "cyan": (40, 215, 225),
    "blue": (45, 70, 225),
    "purple": (190, 50, 210),
}
SIZES = {"small": (4.7, 5.4), "large": (6.9, 7.7)}  # half the width, the image being 48 wide
BACKGROUNDS = {"dark": (20, 70), "light": (170, 230)}  # grey levels

# Never together in train and dev: each shape lacks another colour.
HELD_OUT = (("red", "triangle"), ("green", "circle"), ("blue", "cross"), ("yellow", "square"))
HELD_OUT_EVERY = 5  # every fifth scene of the test split has one of them

COUNTS = {"train": 6_000, "dev": 500, "test": 1_000}
REFERENCES = 5
# What the last axis of `scene_labels` stands for.
LABELS = ("presence", *SHAPES, *COLOURS, *SIZES)

# ------------------------------------------------------------------ words of the grammar
# Each word of a caption, and what it means.
SHAPE_WORDS = {name: name for name in SHAPES} | {"disc": "circle", "box": "square"}
COLOUR_WORDS = {name: name for name in COLOURS} | {"violet": "purple"}
SIZE_WORDS = {name: name for name in SIZES} | {"little": "small", "big": "large"}
COUNT_WORDS = {"one shape": 1, "two shapes": 2, "three shapes": 3}
COUNT_WORDS |= {"one figure": 1, "two figures": 2, "three figures": 3}
FRAMES = ("there is", "we see", "a picture of", "an image of", "this shows")
# Each place, and the cells (row, column) that lie in it.
PLACES = {"in the middle": {(1, 1)}, "in the centre": {(1, 1)}}
for _row, _words in ((0, ("top", "upper")), (2, ("bottom", "lower"))):
    PLACES[f"at the {_words[0]}"] = {(_row, column) for column in range(3)}
    for _column, _side in ((0, "left"), (2, "right")):
        for _word in _words:
            PLACES[f"in the {_word} {_side} corner"] = {(_row, _column)}
        PLACES[f"at the {_words[0]} {_side}"] = {(_row, _column)}
for _column, _side in ((0, "left"), (2, "right")):
    for _phrase in (f"on the {_side}", f"on the {_side} side"):
        PLACES[_phrase] = {(row, _column) for row in range(3)}
# Each relation, and whether it holds between the cells of two objects.
RELATIONS = {
    "above": lambda a, b: a[0] < b[0],
    "over": lambda a, b: a[0] < b[0],
    "below": lambda a, b: a[0] > b[0],
    "under": lambda a, b: a[0] > b[0],
    "left of": lambda a, b: a[1] < b[1],
    "to the left of": lambda a, b: a[1] < b[1],
    "right of": lambda a, b: a[1] > b[1],
    "to the right of": lambda a, b: a[1] > b[1],
    "next to": lambda a, b: a[0] == b[0] and abs(a[1] - b[1]) == 1,
    "beside": lambda a, b: a[0] == b[0] and abs(a[1] - b[1]) == 1,
}

# Scenes are made in blocks with a seed each: a short set is the beginning of a long one.
_BLOCK = 100
_OBJECTS = 3  # at most
_LONGEST = 14  # words
_OBJECT_SHARES = (0.2, 0.4, 0.4)  # of scenes with one, two and three objects
_WIDTH = 48  # lengths of the drawing are in 48ths of the image
_PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
_SEEN = [pair for pair in _PAIRS if pair not in HELD_OUT]


@dataclass(frozen=True)
class SceneObject:
    """One shape, standing in a third of the height (`row`) and a third of the width (`column`)."""

    colour: str
    shape: str
    size: str
    row: int
    column: int

    @property
    def cell(self) -> tuple[int, int]:
        return self.row, self.column

    def is_(self, word: str) -> bool:
        """Whether a colour, a shape, a size or a place, in the words of `Claim`, is this one's."""
        return word in (self.colour, self.shape, self.size) or self.cell in PLACES.get(word, ())


@dataclass(frozen=True)
class Scene:
    """One to three objects, each in a cell of its own, on a dark or a light background."""

    objects: tuple[SceneObject, ...]
    background: str

    @property
    def held_out(self) -> bool:
        """Whether an object has a colour and shape that never come together in train and dev."""
        return any((thing.colour, thing.shape) in HELD_OUT for thing in self.objects)


@dataclass(frozen=True)
class Claim:
    """One thing that a caption says.

    Attributes:
        says: A shape, colour, size, place, relation or number of shapes.
        about: Which of the objects that the caption names, by number: one of them, two for a
            relation; none for the number of shapes.
    """

    says: str
    about: tuple[int, ...] = ()

    def holds(self, objects: Sequence[SceneObject], scene: Scene) -> bool:
        """Whether it is true if the caption means these objects of the scene, in their order."""
        if not self.about:
            return len(scene.objects) == COUNT_WORDS[self.says]
        if len(self.about) == 1:
            return objects[self.about[0]].is_(self.says)
        first, second = (objects[i].cell for i in self.about)
        return RELATIONS[self.says](first, second)


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

    def _problem(self) -> str | None:
        for name in ("pixels", "scenes", "held_out"):
            if len(getattr(self, name)) != len(self.names):
                return f"{len(self.names)} names, but {len(getattr(self, name))} {name}."
        return super()._problem()

    def read_image(self, i: int) -> np.ndarray:
        """The pixels of image `i`, uint8 (size, size, 3)."""
        return self.pixels[i]

    def subset(self, indices: Sequence[int] | np.ndarray) -> "SceneData":
        """The scenes at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            names=tuple(self.names[i] for i in indices),
            captions=tuple(self.captions[i] for i in indices),
            pixels=self.pixels[indices],
            scenes=tuple(self.scenes[i] for i in indices),
            held_out=self.held_out[indices],
        )


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
        FRAME, COUNT, SIZE, COLOUR, SHAPE, PLACE, RELATION: the words above in this file

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
    check_split(split, COUNTS)
    n = COUNTS[split] if n is None else n
    if n < 1 or size < 24:
        raise ConfigError(f"Wanted n >= 1 and size >= 24. Received: n={n}, size={size}")
    scenes, captions, pixels = [], [], []
    for block in range(-(-n // _BLOCK)):
        # Drawing and writing have generators of their own: other words leave the pixels alone.
        compose, draw, write = (
            np.random.default_rng([seed, list(COUNTS).index(split), block, part])
            for part in range(3)
        )
        block_scenes = [
            _compose(compose, split == "test" and i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
            for i in range(_BLOCK)
        ]
        scenes += block_scenes
        pixels.append(_draw_block(draw, block_scenes, size))
        captions += [_write(write, scene) for scene in block_scenes[: n - block * _BLOCK]]
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


# ------------------------------------------------------------------ checking captions


def parse(words: Sequence[str]) -> list[Claim]:
    """What a caption says, claim by claim.

    Args:
        words: As `normalise` gives them.

    Raises:
        DataError: if the words are no caption of the grammar.
    """
    return _Parser(words).caption()


def check_caption(words: Sequence[str], scene: Scene) -> str | None:
    """What is wrong with a caption: it is ungrammatical, or false of the scene; `None` if true.

    A caption is true if for each object it names there is another one in the scene, such that all
    its claims hold. The reason given is the first claim that cannot hold with those before it.
    """
    try:
        claims = parse(words)
    except DataError as error:
        return str(error)
    named = 1 + max(max(claim.about, default=0) for claim in claims)
    meant = list(permutations(scene.objects, named))
    if not meant:
        return f"It names {named} objects, but the scene has {len(scene.objects)}."
    for claim in claims:
        meant = [objects for objects in meant if claim.holds(objects, scene)]
        if not meant:
            return _falsehood(claim, claims, scene)
    return None


def error_kind(words: Sequence[str], scene: Scene) -> str | None:
    """What kind of error `check_caption` finds first, in a few words; `None` for a true caption."""
    try:
        claims = parse(words)
    except DataError:
        return "no sentence of the grammar"
    named = 1 + max(max(claim.about, default=0) for claim in claims)
    meant = list(permutations(scene.objects, named))
    if not meant:
        return "more things than there are"
    for claim in claims:
        meant = [objects for objects in meant if claim.holds(objects, scene)]
        if not meant:
            break
    else:
        return None
    if not claim.about:
        return "wrong number of shapes"
    if len(claim.about) == 2:
        return "wrong relation"
    return "wrong place" if claim.says in PLACES else "a thing that is not there"


def is_true(words: Sequence[str], scene: Scene) -> bool:
    """Whether a caption is grammatical and every claim of it holds of the scene."""
    return check_caption(words, scene) is None


def true_captions(captions: Iterable[Sequence[str]], scenes: Iterable[Scene]) -> float:
    """The share of captions (lists of words) that are true of their scenes, 0..1.

    Raises:
        DataError: if there is none.
    """
    true = [is_true(words, scene) for words, scene in zip(captions, scenes, strict=True)]
    if not true:
        raise DataError("There is no caption whose truth could be told.")
    return sum(true) / len(true)


def _falsehood(claim: Claim, claims: list[Claim], scene: Scene) -> str:
    """Why no objects of the scene fit: this claim does not hold together with those before."""
    if not claim.about:
        return f"It says {claim.says}, but the scene has {len(scene.objects)}."
    before = claims[: claims.index(claim) + 1]
    things = [
        " ".join(c.says for c in before if c.about == (number,))
        for number in (claim.about if len(claim.about) == 2 else range(claim.about[0] + 1))
    ]
    if len(claim.about) == 2:
        return f"No {things[0]} is {claim.says} a {things[1]}."
    beside = f" beside the {' and the '.join(things[:-1])}" if len(things) > 1 else ""
    return f"There is no {things[-1]}{beside}."


class _Parser:
    """Reads the grammar in `synthetic_scenes` from left to right, without going back."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.position = 0
        self.claims: list[Claim] = []
        self.things = 0

    def caption(self) -> list[Claim]:
        if count := self._take(COUNT_WORDS):
            self._counted(count)
        elif place := self._take(PLACES):
            self._need(("is", "there is", "we see"))
            self._claim(place, self._thing("a"))
        elif self._take(("the",)):
            thing = self._thing()
            self._need(("is",))
            if place := self._take(PLACES):
                self._claim(place, thing)
            else:
                self._claim(self._need(RELATIONS, "a place or relation"), thing, self._thing("the"))
        else:
            self._take(FRAMES)
            self._described(self._thing("a"))
        if self.position < len(self.words):
            raise self._error("the end")
        return self.claims

    def _counted(self, count: str) -> None:
        self._claim(count)
        if COUNT_WORDS[count] == 1 or self._take(("one of them",)):
            thing = self._thing("a")
            self._claim(self._need(PLACES, "a place"), thing)
            return
        for _ in range(COUNT_WORDS[count] - 1):
            self._thing("a")
        self._need(("and",))
        self._thing("a")

    def _described(self, thing: int) -> None:
        if place := self._take(PLACES):
            self._claim(place, thing)
        elif relation := self._take(RELATIONS):
            self._claim(relation, thing, self._thing("a"))
        elif self._take(("with",)):
            other = self._thing("a")
            self._claim(self._need(RELATIONS, "a relation"), other, thing)
            self._need(("it",))
        else:
            self._need(("and",), "a place, a relation, 'with' or 'and'")
            self._thing("a")

    def _thing(self, article: str | None = None) -> int:
        """Reads THING after its article; gives the number of the object it names."""
        if article:
            self._need((article,))
        number, self.things = self.things, self.things + 1
        if size := self._take(SIZE_WORDS):
            self._claim(SIZE_WORDS[size], number)
        self._claim(COLOUR_WORDS[self._need(COLOUR_WORDS, "a colour")], number)
        self._claim(SHAPE_WORDS[self._need(SHAPE_WORDS, "a shape")], number)
        return number

    def _claim(self, says: str, *about: int) -> None:
        self.claims.append(Claim(says, about))

    def _take(self, phrases: Iterable[str]) -> str | None:
        """The longest of the phrases that comes next, if one does; it is then read."""
        for phrase in sorted(phrases, key=len, reverse=True):
            parts = phrase.split()
            if self.words[self.position : self.position + len(parts)] == parts:
                self.position += len(parts)
                return phrase
        return None

    def _need(self, phrases: Iterable[str], wanted: str | None = None) -> str:
        found = self._take(phrases)
        if found is None:
            raise self._error(wanted or " or ".join(repr(phrase) for phrase in phrases))
        return found

    def _error(self, wanted: str) -> DataError:
        read = " ".join(self.words[: self.position])
        after = f"after {read!r}" if read else "at the beginning"
        found = self.words[self.position] if self.position < len(self.words) else None
        instead = f"{found!r} stands there" if found else "the caption ends"
        return DataError(f"Not a caption: {after} should come {wanted}, but {instead}.")


# ------------------------------------------------------------------ writing captions


def _write(rng: np.random.Generator, scene: Scene) -> tuple[str, ...]:
    """Five different captions of a scene, written as people write: a capital and a full stop."""
    captions = {}  # a set would lose the order
    while len(captions) < REFERENCES:
        words = _sentence(rng, scene)
        if len(words.split()) <= _LONGEST:
            captions[f"{words[0].upper()}{words[1:]}."] = None
    return tuple(captions)


def _sentence(rng: np.random.Generator, scene: Scene) -> str:
    count = len(scene.objects)
    # Who describes several objects rarely leaves all but one of them out.
    one, two = (0.25, 0.6) if count > 1 else (0.85, 0)
    x = rng.random()
    kind = "one" if x < one else "two" if x < one + two else "count"
    first, *others = _by_salience(rng, scene.objects)
    frame = _pick(rng, FRAMES) + " " if rng.random() < 0.35 else ""
    if kind == "count":
        number = _pick(rng, [words for words in COUNT_WORDS if COUNT_WORDS[words] == count])
        if count == 1 or rng.random() < 0.4:
            them = ", one of them" if count > 1 else ":"
            return f"{number}{them} a {_thing(rng, first)} {_place(rng, first)}"
        # Three sizes would make the sentence long.
        *things, last = (_thing(rng, thing, count == 2) for thing in (first, *others))
        return f"{number}: {', '.join(f'a {thing}' for thing in things)} and a {last}"
    if kind == "one":
        thing, place = _thing(rng, first), _place(rng, first)
        form = rng.random()
        if form < 0.6:
            return f"{frame}a {thing} {place}"
        if form < 0.8:
            return f"{place} {_pick(rng, ('is', 'there is', 'we see'))} a {thing}"
        return f"the {thing} is {place}"
    second = others[rng.integers(len(others))]
    relation = _pick(rng, [r for r in RELATIONS if RELATIONS[r](first.cell, second.cell)])
    things = _thing(rng, first), _thing(rng, second)
    form = rng.random()
    if form < 0.45:
        return f"{frame}a {things[0]} {relation} a {things[1]}"
    if form < 0.6:
        return f"the {things[0]} is {relation} the {things[1]}"
    if form < 0.8:
        inverse = _pick(rng, [r for r in RELATIONS if RELATIONS[r](second.cell, first.cell)])
        return f"{frame}a {things[0]} with a {things[1]} {inverse} it"
    return f"{frame}a {things[0]} and a {things[1]}"


def _by_salience(rng, objects) -> list[SceneObject]:
    """In random order, a large one three times as likely to come first as a small one.

    The numbers drawn are those of `rng.choice(n, n, replace=False, p=...)`, which takes ten times
    as long.
    """
    weights = [3.0 if thing.size == "large" else 1.0 for thing in objects]
    order = []
    while len(order) < len(objects):
        left = [0.0 if i in order else weight for i, weight in enumerate(weights)]
        bounds = list(accumulate(left))
        for x in rng.random(len(objects) - len(order)):
            chosen = bisect_right(bounds, x * bounds[-1])
            if chosen not in order:
                order.append(chosen)
    return [objects[i] for i in order]


def _thing(rng, thing: SceneObject, may_tell_size: bool = True) -> str:
    words = [_word(rng, COLOUR_WORDS, thing.colour), _word(rng, SHAPE_WORDS, thing.shape)]
    if may_tell_size and rng.random() < 0.5:
        words.insert(0, _word(rng, SIZE_WORDS, thing.size))
    return " ".join(words)


def _place(rng, thing: SceneObject) -> str:
    fitting = [place for place, cells in PLACES.items() if thing.cell in cells]
    exact = [place for place in fitting if len(PLACES[place]) == 1]
    return _pick(rng, exact if exact and rng.random() < 0.7 else fitting)


def _word(rng, words: dict[str, str], meaning: str) -> str:
    """The usual word, or in one of four times another one that means the same."""
    others = [word for word in words if words[word] == meaning and word != meaning]
    return _pick(rng, others) if others and rng.random() < 0.25 else meaning


def _pick(rng, choices):
    return choices[rng.integers(len(choices))]


# ------------------------------------------------------------------ scenes and their pixels


def _compose(rng: np.random.Generator, held_out: bool) -> Scene:
    count = 1 + rng.choice(_OBJECTS, p=_OBJECT_SHARES)
    pairs = [_pick(rng, _SEEN) for _ in range(count)]
    if held_out:
        pairs[0] = _pick(rng, HELD_OUT)
    cells = rng.choice(9, count, replace=False).tolist()
    objects = tuple(
        SceneObject(colour, shape, _pick(rng, tuple(SIZES)), *divmod(cell, 3))
        for (colour, shape), cell in zip(pairs, cells, strict=True)
    )
    return Scene(objects, _pick(rng, tuple(BACKGROUNDS)))


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
    return (
        grey.astype(np.float32)[:, :, None, None]
        + slope[0] * along[:, None]
        + slope[1] * along[None, :]
    )


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
