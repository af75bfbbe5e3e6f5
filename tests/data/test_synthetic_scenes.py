import hashlib
from collections import Counter

import numpy as np
import pytest

from common.data.scene_captions import (
    COLOUR_WORDS,
    COLOURS,
    COUNT_WORDS,
    FRAMES,
    HELD_OUT,
    PLACES,
    REFERENCES,
    RELATIONS,
    SHAPE_WORDS,
    SHAPES,
    SIZE_WORDS,
    Claim,
    Scene,
    SceneObject,
    check_caption,
    error_kind,
    parse,
    true_captions,
)
from common.data.synthetic_scenes import LABELS, scene_labels, synthetic_scenes
from common.errors import ConfigError, DataError

SCENE = Scene(
    (
        SceneObject("red", "circle", "small", 0, 0),
        SceneObject("blue", "square", "large", 2, 1),
        SceneObject("blue", "circle", "small", 2, 2),
    ),
    "dark",
)


@pytest.fixture(scope="module")
def train():
    return synthetic_scenes("train", 600)


@pytest.fixture(scope="module")
def test():
    return synthetic_scenes("test")


def test_what_is_there(train, test):
    assert train.pixels.shape == (600, 48, 48, 3) and train.pixels.dtype == np.uint8
    assert len(test) == len(test.scenes) == len(test.captions) == 1000
    assert (train.name, train.split, train.folder) == ("synthetic", "train", None)
    assert train.names[12] == "train-00012.png"
    np.testing.assert_array_equal(train.read_image(12), train.pixels[12])
    assert {len(scene.objects) for scene in train.scenes} == {1, 2, 3}
    for scene in train.scenes:
        assert len({thing.cell for thing in scene.objects}) == len(scene.objects)
    assert synthetic_scenes("dev", 3, size=32).pixels.shape == (3, 32, 32, 3)


def test_same_pixels_and_words_everywhere():
    # Computed once: changes only if the data change, and then figures quoted must be remade.
    data = synthetic_scenes("train", 100)
    assert hashlib.sha256(data.pixels.tobytes()).hexdigest()[:16] == "d45022f9db078dfe"
    assert hashlib.sha256(repr(data.captions).encode()).hexdigest()[:16] == "ae40d751cb09637b"


def test_short_set_begins_the_long_one(train):
    short = synthetic_scenes("train", 120)
    np.testing.assert_array_equal(short.pixels, train.pixels[:120])
    assert short.captions == train.captions[:120] and short.scenes == train.scenes[:120]


def test_splits_and_seeds_share_no_image(train, test):
    sets = [train, test, synthetic_scenes("dev"), synthetic_scenes("train", 600, seed=1)]
    pictures = {image.tobytes() for data in sets for image in data.pixels}
    assert len(pictures) == sum(map(len, sets))


def test_held_out_combinations(train, test):
    assert len(HELD_OUT) == len({shape for _, shape in HELD_OUT}) == len(SHAPES)
    dev = synthetic_scenes("dev")
    assert not train.held_out.any() and not dev.held_out.any()
    np.testing.assert_array_equal(test.held_out, np.arange(1000) % 5 == 4)
    pairs = Counter(
        (thing.colour, thing.shape)
        for scene, held_out in zip(test.scenes, test.held_out, strict=True)
        if held_out
        for thing in scene.objects
    )
    assert all(pairs[pair] > 20 for pair in HELD_OUT)
    seen = {(t.colour, t.shape) for data in (train, dev) for s in data.scenes for t in s.objects}
    assert len(seen) == len(SHAPES) * len(COLOURS) - len(HELD_OUT)


def test_subset_keeps_all(test):
    part = test.subset([9, 4, 0])
    assert part.names == ("test-00009.png", "test-00004.png", "test-00000.png")
    assert part.held_out.tolist() == [True, True, False]
    assert part.references == [test.references[i] for i in (9, 4, 0)]
    assert part.scenes[1] is test.scenes[4]
    np.testing.assert_array_equal(part.pixels, test.pixels[[9, 4, 0]])
    assert len(test.subset(np.array([2]))) == 1


def test_captions_are_different_and_true(train, test):
    for data in (train, test):
        for captions, scene in zip(data.references, data.scenes, strict=True):
            assert len({tuple(words) for words in captions}) == REFERENCES
            for words in captions:
                assert 4 <= len(words) <= 14
                assert check_caption(words, scene) is None, (words, scene)


def test_every_word_of_the_grammar_is_used(train, test):
    texts = [" ".join(words) for data in (train, test) for c in data.references for words in c]
    for words in (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, COUNT_WORDS, FRAMES, PLACES, RELATIONS):
        for phrase in words:
            assert any(f" {phrase} " in f" {text} " for text in texts), phrase
    assert 50 <= len({word for text in texts for word in text.split()}) <= 70


def test_changed_captions_are_false(test):
    """Each meaningful word changed to one that nothing in the scene bears out."""
    changed = Counter()
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above",
                "over": "under", "under": "over", "top": "bottom", "bottom": "top",
                "upper": "lower", "lower": "upper"}  # fmt: skip
    for captions, scene in zip(test.references, test.scenes, strict=True):
        absent = {
            "colour": [c for c in COLOURS if not any(t.is_(c) for t in scene.objects)],
            "shape": [s for s in SHAPES if not any(t.is_(s) for t in scene.objects)],
            "size": [s for s in ("small", "large") if not any(t.is_(s) for t in scene.objects)],
        }
        kinds = {"colour": COLOUR_WORDS, "shape": SHAPE_WORDS, "size": SIZE_WORDS}
        for words in captions:
            for i, word in enumerate(words):
                for kind, known in kinds.items():
                    if word in known and absent[kind]:
                        assert check_caption([*words[:i], absent[kind][0], *words[i + 1 :]], scene)
                        changed[kind] += 1
                if word in ("one", "two", "three") and words[i + 1 : i + 2] != ["of"]:
                    other = {"one": "two", "two": "three", "three": "two"}[word]
                    assert check_caption([*words[:i], other, *words[i + 1 :]], scene)
                    changed["count"] += 1
                if word in opposite and len(scene.objects) == 1:
                    assert check_caption([*words[:i], opposite[word], *words[i + 1 :]], scene)
                    changed["place"] += 1
                if word in opposite and len(parse(words)) >= 5 and len(scene.objects) == 2:
                    first, second = scene.objects
                    if (first.colour, first.shape) != (second.colour, second.shape):
                        assert check_caption([*words[:i], opposite[word], *words[i + 1 :]], scene)
                        changed["relation"] += 1
    assert min(changed.values()) > 100 and len(changed) == 6, changed


def test_a_part_of_a_caption_is_no_caption(test):
    for captions, scene in zip(test.references[:300], test.scenes, strict=False):
        for words in captions:
            assert check_caption(words[1:-1], scene)
            assert check_caption([*words, words[-1]], scene)
            assert check_caption(words[::-1], scene)


def test_claims():
    assert parse("the little red disc is in the upper left corner".split()) == [
        Claim("small", (0,)), Claim("red", (0,)), Claim("circle", (0,)),
        Claim("in the upper left corner", (0,)),
    ]  # fmt: skip
    assert parse("a red circle with a violet box below it".split()) == [
        Claim("red", (0,)), Claim("circle", (0,)), Claim("purple", (1,)), Claim("square", (1,)),
        Claim("below", (1, 0)),
    ]  # fmt: skip
    assert parse("two shapes a red circle and a blue square".split())[0] == Claim("two shapes")


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle in the top left corner",
        "on the right is a small blue disc",
        "the large blue square is at the bottom",
        "the blue box is to the right of the red circle",
        "we see a blue circle with a big blue square beside it",
        "a blue circle and a blue square",
        "three figures one of them a blue circle at the bottom right",
        "three shapes a blue circle a red circle and a blue square",
    ],
)
def test_true_captions(caption):
    assert check_caption(caption.split(), SCENE) is None


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a green circle at the top", "There is no green."),
        ("a red square at the top", "There is no red square."),
        ("the red circle is on the right", "There is no red circle on the right."),
        ("a red circle under a blue square", "No red circle is under a blue square."),
        ("a red circle and a red circle", "There is no red beside the red circle."),
        ("two shapes a red circle and a blue square", "It says two shapes, but the scene has 3."),
        ("", "at the beginning should come 'a', but the caption ends"),
        ("a red circle", "after 'a red circle' should come a place, a relation, 'with' or 'and'"),
        ("a circle at the top", "after 'a' should come a colour, but 'circle' stands there"),
        ("three shapes", "'a'"),
        ("three shapes a red circle and a blue square", "'a'"),
        ("a red circle at the top top", "should come the end, but 'top'"),
        ("a red circle on a blue square", "but 'on' stands there"),
        ("one shape a red circle at the top", "It says one shape, but the scene has 3."),
    ],
)
def test_false_and_ungrammatical_captions(caption, reason):
    assert reason in check_caption(caption.split(), SCENE)
    assert check_caption(caption.split(), SCENE)


def test_more_objects_than_there_are():
    alone = Scene(SCENE.objects[:1], "light")
    assert "names 2 objects, but the scene has 1" in check_caption(
        "a red circle and a red circle".split(), alone
    )


def test_share_of_true_captions():
    captions = [c.split() for c in ("a red circle at the top", "a red circle at the bottom")]
    assert true_captions(captions, [SCENE, SCENE]) == 0.5
    with pytest.raises(DataError, match="no caption"):
        true_captions([], [])


def test_labels():
    labels = scene_labels([SCENE, Scene(SCENE.objects[:1], "dark")])
    assert labels.shape == (2, 3, 3, len(LABELS)) and labels.dtype == np.float32
    assert labels[0].sum() == 12 and labels[1].sum() == 4
    there = {word for word, value in zip(LABELS, labels[0, 2, 1], strict=True) if value}
    assert there == {"presence", "blue", "square", "large"}


def test_shapes_stand_in_their_cells():
    """The coloured pixels (the background is almost grey) lie where the scene says."""
    data = synthetic_scenes("train", 300)
    for image, scene in zip(data.pixels.astype(float), data.scenes, strict=True):
        coloured = np.ptp(image, axis=2) > 75
        cells = coloured.reshape(3, 16, 3, 16).mean(axis=(1, 3))
        filled = {(row, column) for row, column in np.argwhere(cells > 0.12).tolist()}
        assert filled == {thing.cell for thing in scene.objects}


def test_easy_ways_fail(train, test):
    """The commonest caption, and those of the image whose pixels are nearest."""
    common = Counter(tuple(words) for captions in train.references for words in captions)
    constant = [common.most_common(1)[0][0]] * len(test)
    assert true_captions(constant, test.scenes) < 0.08
    pixels = [data.pixels.reshape(len(data), -1).astype(np.float32) for data in (train, test)]
    distance = (pixels[0] ** 2).sum(axis=1) - 2 * pixels[1] @ pixels[0].T
    nearest = [train.references[i][0] for i in distance.argmin(axis=1)]
    assert true_captions(nearest, test.scenes) < 0.25


@pytest.mark.parametrize("arguments", [("validation", 10), ("train", 0), ("train", 5, 16)])
def test_wrong_arguments(arguments):
    split, n, *size = arguments
    with pytest.raises(ConfigError):
        synthetic_scenes(split, n, size=size[0] if size else 48)


def test_lengths_must_agree(test):
    with pytest.raises(DataError, match="1000 names, but 3 scenes"):
        type(test)(
            names=test.names, captions=test.captions, name="x", split="test",
            pixels=test.pixels, scenes=test.scenes[:3], held_out=test.held_out,
        )  # fmt: skip


def test_kinds_of_errors():
    scene = Scene(
        (SceneObject("red", "circle", "small", 0, 0), SceneObject("blue", "square", "large", 2, 2)),
        "dark",
    )
    kinds = {
        "a red circle above a blue square": None,
        "a red circle below a blue square": "wrong relation",
        "a red circle on the right": "wrong place",
        "a green circle on the left": "a thing that is not there",
        "a large red circle on the left": "a thing that is not there",
        "a a circle": "no sentence of the grammar",
    }
    for text, kind in kinds.items():
        assert error_kind(text.split(), scene) == kind, text
        assert (check_caption(text.split(), scene) is None) == (kind is None)
