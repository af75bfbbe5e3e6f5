"""`load_images` and `load_splits`, over all data sets."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_slides import add

from common import data
from common.data import (
    data_state,
    dataset_name,
    is_own,
    load_images,
    load_patches,
    load_splits,
)
from common.errors import ConfigError, DataError


@pytest.fixture
def tree(tmp_path):
    for split, n in (("train", 20), ("test", 5)):
        for value, name in enumerate(("a", "b")):
            folder = tmp_path / "own" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                image = np.full((32, 32, 3), 100 * value + i, np.uint8)
                cv2.imwrite(str(folder / f"{i:02}.png"), image)
    return tmp_path / "own"


@pytest.mark.parametrize("form", [str, Path, "folder:{}".format])
def test_folder_in_three_forms(tree, form):
    assert len(load_images(form(tree), "train")) == 40


def test_limit(tree):
    data = load_images(tree, "train", limit=10, seed=1)
    assert data.class_counts().tolist() == [5, 5]
    assert load_images(tree, "train", limit=10, seed=2).sources != data.sources
    assert len(load_images(tree, "train", limit=41)) == 40
    assert len(load_images("synthetic", "test", limit=20)) == 20


def test_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match=r"'cifar11'(.|\n)*synthetic(.|\n)*cifar10(.|\n)*folder"):
        load_images("cifar11", "train")
    for dataset in ("synthetic", "cifar10", str(tmp_path)):
        with pytest.raises(ConfigError, match="train, test. Received: 'valid'"):
            load_images(dataset, "valid")
    with pytest.raises(DataError, match="There is no folder '.*/missing'"):
        load_images(f"folder:{tmp_path}/missing", "train")


def test_every_name_of_the_package_is_there():
    assert all(getattr(data, name) is not None for name in data.__all__)
    with pytest.raises(AttributeError, match="'nosuch'"):
        data.nosuch  # noqa: B018


def test_missing_course_data(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="COURSE_DATA=.*missing"):
        load_images("cifar10", "train")


def test_splits(tree):
    train, validation, test = load_splits(tree, seed=0, validation=0.25)
    assert [len(part) for part in (train, validation, test)] == [30, 10, 10]
    assert [part.split for part in (train, validation, test)] == ["train", "validation", "test"]
    assert not set(train.sources) & set(validation.sources)
    values = {tuple(image[0, 0]) for image in load_images(tree, "train").images}
    # Set aside from train: every picture of it is there, and none of another set.
    assert {tuple(i[0, 0]) for part in (train, validation) for i in part.images} == values


def test_what_is_wrong_in_both_splits_is_told_at_once(tree):
    for split in ("train", "test"):
        (tree / split / "a" / "00.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)test: 1 of 10 files.*train: 1 of 40 files"):
        load_splits(tree, 0)


def test_splits_with_limits():
    train, validation, test = load_splits("synthetic", 0, n_train=200, n_test=50, validation=40)
    assert [len(part) for part in (train, validation, test)] == [160, 40, 50]
    assert validation.class_counts().tolist() == [4] * 10


def test_validation_of_a_training_in_which_nothing_is_chosen(tree, monkeypatch):
    assert len(load_splits(tree, 0, validation=None)[1]) == 4  # a tenth
    monkeypatch.setattr("common.data.loading.MOST_VALIDATION", 2)
    assert len(load_splits(tree, 0, validation=None)[1]) == 2


def test_test_images_do_not_depend_on_the_seed(tree):
    parts = [load_splits(tree, seed=seed, n_test=4, validation=4)[2] for seed in range(2)]
    assert parts[0].sources == parts[1].sources


def test_real_images():
    root = Path(os.environ.get("COURSE_DATA", "data")) / "cifar10"
    if not (root / "test").is_dir():
        pytest.skip(f"no real images: {root}/test does not exist (set COURSE_DATA)")
    data = load_images("cifar10", "test")
    assert data.images.shape == (len(data), 32, 32, 3)
    assert len(data.classes) == 10 and data.class_counts().min() > 0
    # Photographs, not noise: neighbouring pixels are alike.
    steps = np.abs(np.diff(data.images[:500].astype(int), axis=2)).mean()
    assert steps < 20 < data.images[:500].std()


# --- patches ---


@pytest.fixture
def slides(tmp_path):
    for patient in ("a", "b", "c"):
        for x in (1, 51):
            add(tmp_path / "slides", patient, x, 1, x // 51)
    return tmp_path / "slides"


@pytest.mark.parametrize("form", [str, Path, "folder:{}".format])
def test_slides_in_three_forms(slides, form):
    data = load_patches(form(slides))
    assert data.groups.tolist() == ["a", "a", "b", "b", "c", "c"]
    assert data.labels.tolist() == [0, 1] * 3


def test_whole_patients_are_drawn(slides):
    seen = set()
    for seed in range(10):
        groups = load_patches(slides, patients=2, seed=seed).groups
        assert len(groups) == 4 and len(set(groups)) == 2
        seen |= set(groups)
    assert seen == {"a", "b", "c"}
    assert len(load_patches(slides, patients=9)) == 6
    with pytest.raises(ConfigError, match="patients must be at least 1"):
        load_patches(slides, patients=0)


def test_unknown_patches_name_what_there_is(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"'cifar10'(.|\n)*synthetic(.|\n)*histopathology"):
        load_patches("cifar10")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="COURSE_DATA=.*missing"):
        load_patches("histopathology")


def test_names_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    for dataset in ("pets", "folder:pets", f"folder:{tmp_path}/pets", str(tmp_path / "x/../pets")):
        assert is_own(dataset) and dataset_name(dataset) == "pets"
    for dataset in ("cifar10", "synthetic", "histopathology", "coco:500", "coco-karpathy:10"):
        assert not is_own(dataset) and dataset_name(dataset) == dataset


def test_state_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert data_state("synthetic") is None and data_state("flickr8k") is None
    (tmp_path / "flickr8k").mkdir()
    first = data_state("flickr8k")
    (tmp_path / "flickr8k" / "captions.txt").write_text("image,caption")
    assert first != data_state("flickr8k") == data_state(f"folder:{tmp_path}/flickr8k")
