from dataclasses import replace

import numpy as np
import pytest

from common.course import examined
from common.course.examined import examined_network, tissue_beside
from common.data import load_splits
from common.errors import ConfigError, DataError
from common.evaluation.classification import predict_logits
from common.training import recipes
from common.training.released import load_model, released_record


@pytest.fixture(autouse=True)
def short(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    monkeypatch.setitem(recipes.TRAIN_IMAGES, "smoke", 200)
    monkeypatch.setitem(recipes.TEST_IMAGES, "smoke", 50)
    plan = replace(recipes.RECIPES["smoke"], epochs=1, sizes=())
    monkeypatch.setitem(recipes.RECIPES, "smoke", plan)


def test_other_classes_get_a_small_network_once(monkeypatch):
    first = examined_network("synthetic", "smoke")
    assert first.origin == "a small network of this lesson" and not first.seen
    train, validation, test = load_splits("synthetic", 0, 200, 50)
    assert first.record["data"]["fingerprint"] == train.fingerprint()
    np.testing.assert_array_equal(first.validation.images, validation.images)
    np.testing.assert_array_equal(first.test.images, test.images)
    assert f"{len(train)} images of synthetic" in str(first)
    monkeypatch.setattr(examined.Classification, "fit", None)  # nothing is trained again
    again = examined_network("synthetic", "smoke", run_name=first.record["run_name"])
    assert again.origin == f"the run {first.record['run_name']}"
    logits = predict_logits(first.network, test.images)
    np.testing.assert_array_equal(logits, predict_logits(again.network, test.images))
    np.testing.assert_array_equal(
        logits, predict_logits(examined_network("synthetic", "smoke").network, test.images)
    )


def test_images_of_the_released_classes_get_the_released_weights(monkeypatch):
    images, record = examined.load_images, released_record()

    def named(*arguments, **options):
        return replace(images(*arguments, **options), classes=tuple(record["classes"]))

    def few(dataset, seed, n_train, n_test, **options):
        return load_splits(dataset, seed, 200, n_test, **options)

    def splits(*arguments, **options):
        found = few(*arguments, **options)
        return tuple(replace(part, classes=tuple(record["classes"])) for part in found)

    monkeypatch.setattr(examined, "load_images", named)
    monkeypatch.setattr(examined, "load_splits", splits)
    found = examined_network("synthetic", "smoke")
    assert found.origin == "the weights that come with the course"
    assert "may have seen" in found.seen and found.seen in str(found)
    network, _ = load_model()
    for ours, theirs in zip(found.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    monkeypatch.setattr(examined, "load_splits", few)
    record["data"]["n_val"] = 0
    monkeypatch.setattr(examined, "load_model", lambda *_: (network, record))
    assert "trained on all images" in examined_network("synthetic", "smoke").seen


def test_a_run_of_other_classes_or_of_no_name(monkeypatch):
    with pytest.raises(ConfigError, match="no-such-run"):
        examined_network("synthetic", "smoke", run_name="no-such-run")
    record = {**released_record(), "classes": ["cat", "dog"]}
    monkeypatch.setattr(examined, "load_model", lambda *_: (None, record))
    with pytest.raises(DataError, match="tells cat, dog; the images of synthetic are of"):
        examined_network("synthetic", "smoke", run_name="pets")


def test_tissue_beside_the_idc_set_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "breakhis").mkdir()
    assert tissue_beside("histopathology", "breakhis") == str(tmp_path / "breakhis")
    assert tissue_beside("histopathology", "slides") is None
    assert tissue_beside("synthetic", "breakhis") is tissue_beside("folder:x", "breakhis") is None
