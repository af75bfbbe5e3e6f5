import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.images import ImageData, split_validation
from common.errors import ConfigError, DataError


def make(counts=(60, 30, 10), **changes):
    """Images whose first pixel is their number."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.zeros((len(labels), 4, 5, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    values = {
        "images": images,
        "labels": labels,
        "classes": tuple("abcdefgh"[: len(counts)]),
        "name": "toy",
        "split": "train",
        "sources": [f"{i}.png" for i in range(len(labels))],
    }
    return ImageData(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((100, 4, 5, 3))}, "uint8. Received: float64"),
        ({"images": [[1]]}, "uint8. Received: list"),
        ({"images": np.zeros((100, 4, 5), np.uint8)}, r"\(N, H, W, 3\)"),
        ({"images": np.zeros((0, 4, 5, 3), np.uint8)}, "no image"),
        ({"labels": np.zeros(100, np.int64)}, "int32. Received: int64"),
        ({"labels": np.zeros(99, np.int32)}, r"100 images, but labels of shape \(99,\)"),
        ({"labels": np.full(100, 3, np.int32)}, r"0\.\.2.*Received: 3\.\.3"),
        ({"labels": np.full(100, -1, np.int32)}, r"Received: -1\.\.-1"),
        ({"classes": ["a", "b", "c"]}, "tuple of distinct"),
        ({"classes": ("a", "b", "b")}, "tuple of distinct"),
        ({"groups": np.zeros(3)}, "groups of shape"),
        ({"sources": ["x"]}, "sources of shape"),
    ],
)
def test_checked_when_made(changes, message):
    with pytest.raises(DataError, match=r"toy \(train\): .*" + message):
        make(**changes)


def test_subset_and_counts():
    data = make(groups=np.arange(100) // 10)
    part = data.subset([99, 0])
    assert part.images[:, 0, 0, 0].tolist() == [99, 0]
    assert part.labels.tolist() == [2, 0]
    assert part.sources == ["99.png", "0.png"]
    assert part.groups.tolist() == [9, 0]
    assert len(part) == 2
    assert data.class_counts().to_dict() == {"a": 60, "b": 30, "c": 10}
    assert data.subset([0]).class_counts().to_dict() == {"a": 1, "b": 0, "c": 0}


def test_sample_keeps_shares_and_is_nested():
    data = make()
    small, large = data.sample(10, seed=1), data.sample(50, seed=1)
    assert small.class_counts().tolist() == [6, 3, 1]
    assert large.class_counts().tolist() == [30, 15, 5]
    assert set(small.sources) < set(large.sources)
    assert data.sample(10, seed=2).sources != small.sources
    assert data.sample(10, seed=1).sources == small.sources
    with pytest.raises(ConfigError, match="has 100 images. Wanted: 101"):
        data.sample(101, seed=0)


def test_fingerprint_sees_every_part():
    data = make()
    pixels = data.images.copy()
    pixels[50, 3, 4, 2] = 1
    others = [
        make(images=pixels),
        make(labels=data.labels[::-1].copy()),
        make(classes=("a", "b", "z")),
        make(images=data.images.transpose(0, 2, 1, 3).copy()),
    ]
    assert len({d.fingerprint() for d in [data, *others]}) == 5
    assert make(name="other").fingerprint() == data.fingerprint()
    assert len(data.fingerprint()) == 16


@pytest.mark.parametrize("part", [0.2, 20])
def test_split_is_stratified_and_whole(part):
    train, validation = split_validation(make(), part, seed=3)
    assert (train.split, validation.split) == ("train", "validation")
    assert validation.class_counts().tolist() == [12, 6, 2]
    numbers = [int(s.removesuffix(".png")) for s in [*train.sources, *validation.sources]]
    assert sorted(numbers) == list(range(100))
    again = split_validation(make(), part, seed=3)[1]
    assert again.sources == validation.sources
    assert split_validation(make(), part, seed=4)[1].sources != validation.sources


def test_split_keeps_groups_apart():
    groups = np.arange(100) // 5
    train, validation = split_validation(make(groups=groups), 0.2, seed=0)
    assert not set(train.groups) & set(validation.groups)
    assert len(train) + len(validation) == 100
    # 60, 30 and 10 images in groups of five: shares of a fifth can be met to within a group.
    assert np.abs(validation.class_counts().to_numpy() - [12, 6, 2]).max() <= 5


@pytest.mark.parametrize(
    ("data", "part", "error", "message"),
    [
        (make((5, 5)), 0.0, ConfigError, "between 0 and all 10"),
        (make((5, 5)), 1.0, ConfigError, "between 0 and all 10"),
        (make((5, 5)), 10, ConfigError, "between 0 and all 10"),
        (make((5, 5)), float("nan"), ConfigError, "between 0 and all 10"),
        (make((5, 5)), float("inf"), ConfigError, "between 0 and all 10"),
        (make((1, 1)), 0.3, DataError, "no class has two images"),
        (make((5, 0)), 0.3, DataError, "no image of b to train on"),
        (make((5, 5)), 1, DataError, "cannot both hold all 2 classes"),
        (make((5, 5), groups=np.zeros(10)), 0.5, DataError, "one group"),
        (make((5, 5), groups=np.repeat([0, 1], 5)), 0.5, DataError, "no image of"),
    ],
)
def test_impossible_splits(data, part, error, message):
    with pytest.raises(error, match=message):
        split_validation(data, part, seed=0)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=8),
    rare=st.integers(0, 100),
    part=st.floats(0.01, 0.5),
    seed=st.integers(0, 3),
)
def test_any_size_can_be_divided(counts, rare, part, seed):
    """Each class with two images stands on both sides, and the same part comes again."""
    data = make((max(2, counts[0]) + rare, *counts[1:]))
    train, validation = split_validation(data, part, seed)
    assert sorted([*train.sources, *validation.sources]) == sorted(data.sources)
    assert (train.class_counts() > 0).all()
    assert ((validation.class_counts() > 0) == (data.class_counts() > 1)).all()
    # As a lesson finds it again: from the numbers in a run's record.
    share = len(validation) / len(data)
    assert split_validation(data, share, seed)[1].sources == validation.sources


def test_where_there_are_many_the_part_is_what_was_asked_for():
    assert len(split_validation(make(), 0.1, seed=0)[1]) == 10
    assert split_validation(make((90, 5)), 0.1, seed=0)[1].class_counts().tolist() == [9, 1]


def test_the_only_image_of_a_class_trains(caplog):
    train, validation = split_validation(make((20, 1)), 0.1, seed=0)
    assert train.class_counts().tolist() == [18, 1]
    assert validation.class_counts().tolist() == [2, 0]
    assert "toy: one training image only of b" in caplog.text


@settings(deadline=None, max_examples=20, derandomize=True)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_samples_keep_every_class_and_contain_smaller_ones(counts, seed):
    data = make(counts)
    before = set()
    for n in range(1, len(data) + 1):
        part = data.sample(n, seed)
        assert len(part) == n and before <= set(part.sources)
        assert (part.class_counts() > 0).sum() == min(n, len(counts))
        before = set(part.sources)


def test_at_most():
    data = make((6, 4))
    assert data.at_most(None, seed=0) is data.at_most(11, seed=0) is data
    assert data.at_most(5, seed=0).sources == data.sample(5, seed=0).sources
