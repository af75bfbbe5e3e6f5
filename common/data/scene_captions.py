"""Captions of the scenes in `synthetic_scenes`: a grammar, what they say, whether it is true."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, permutations

import numpy as np

from common.errors import DataError

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

# Never together in train and dev: each shape lacks another colour.
HELD_OUT = (("red", "triangle"), ("green", "circle"), ("blue", "cross"), ("yellow", "square"))

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
RELATIONS = {}
for _words, _holds in (
    (("above", "over"), lambda a, b: a[0] < b[0]),
    (("below", "under"), lambda a, b: a[0] > b[0]),
    (("left of", "to the left of"), lambda a, b: a[1] < b[1]),
    (("right of", "to the right of"), lambda a, b: a[1] > b[1]),
    (("next to", "beside"), lambda a, b: a[0] == b[0] and abs(a[1] - b[1]) == 1),
):
    RELATIONS |= dict.fromkeys(_words, _holds)

REFERENCES = 5  # captions of a scene
_LONGEST = 14  # words


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
    problem = _problem(words, scene)
    return None if problem is None else problem[1]


def error_kind(words: Sequence[str], scene: Scene) -> str | None:
    """What kind of error `check_caption` finds first, in a few words; `None` for a true caption."""
    problem = _problem(words, scene)
    return None if problem is None else problem[0]


def true_captions(captions: Iterable[Sequence[str]], scenes: Iterable[Scene]) -> float:
    """The share of captions (lists of words) that are true of their scenes, 0..1.

    Raises:
        DataError: if there is none.
    """
    pairs = zip(captions, scenes, strict=True)
    true = [check_caption(words, scene) is None for words, scene in pairs]
    if not true:
        raise DataError("There is no caption whose truth could be told.")
    return sum(true) / len(true)


def _problem(words: Sequence[str], scene: Scene) -> tuple[str, str] | None:
    """The kind of error that is found first, and what is wrong; `None` for a true caption."""
    try:
        claims = parse(words)
    except DataError as error:
        return "no sentence of the grammar", str(error)
    named, there = 1 + max(max(c.about, default=0) for c in claims), len(scene.objects)
    if named > there:
        why = f"It names {named} objects, but the scene has {there}."
        return "more things than there are", why
    meant = list(permutations(scene.objects, named))
    for i, claim in enumerate(claims):
        meant = [objects for objects in meant if claim.holds(objects, scene)]
        if not meant:
            return _falsehood(claim, claims[: i + 1], scene)
    return None


def _falsehood(claim: Claim, before: list[Claim], scene: Scene) -> tuple[str, str]:
    """Of what kind a claim is that holds of no objects together with those before, and why."""
    if not claim.about:
        why = f"It says {claim.says}, but the scene has {len(scene.objects)}."
        return "wrong number of shapes", why
    things = [
        " ".join(c.says for c in before if c.about == (number,))
        for number in (claim.about if len(claim.about) == 2 else range(claim.about[0] + 1))
    ]
    if len(claim.about) == 2:
        return "wrong relation", f"No {things[0]} is {claim.says} a {things[1]}."
    kind = "wrong place" if claim.says in PLACES else "a thing that is not there"
    beside = f" beside the {' and the '.join(things[:-1])}" if len(things) > 1 else ""
    return kind, f"There is no {things[-1]}{beside}."


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


def write(rng: np.random.Generator, scene: Scene) -> tuple[str, ...]:
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
    frame = pick(rng, FRAMES) + " " if rng.random() < 0.35 else ""
    if kind == "count":
        number = pick(rng, [words for words in COUNT_WORDS if COUNT_WORDS[words] == count])
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
            return f"{place} {pick(rng, ('is', 'there is', 'we see'))} a {thing}"
        return f"the {thing} is {place}"
    second = others[rng.integers(len(others))]
    relation = pick(rng, [r for r in RELATIONS if RELATIONS[r](first.cell, second.cell)])
    things = _thing(rng, first), _thing(rng, second)
    form = rng.random()
    if form < 0.45:
        return f"{frame}a {things[0]} {relation} a {things[1]}"
    if form < 0.6:
        return f"the {things[0]} is {relation} the {things[1]}"
    if form < 0.8:
        inverse = pick(rng, [r for r in RELATIONS if RELATIONS[r](second.cell, first.cell)])
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
    return pick(rng, exact if exact and rng.random() < 0.7 else fitting)


def _word(rng, words: dict[str, str], meaning: str) -> str:
    """The usual word, or in one of four times another one that means the same."""
    others = [word for word in words if words[word] == meaning and word != meaning]
    return pick(rng, others) if others and rng.random() < 0.25 else meaning


def pick(rng, choices):
    """One of some choices, at random."""
    return choices[rng.integers(len(choices))]
