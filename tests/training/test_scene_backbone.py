"""The backbone of the scenes: that it can be trained, and what the released one knows."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from common.data.images import ImageData
from common.data.synthetic_scenes import LABELS, scene_labels, synthetic_scenes
from common.errors import DataError
from common.training import scene_backbone as module
from common.training.backend import device_settings
from common.training.scene_backbone import (
    COLOUR_LABELS,
    asked_cross_entropy,
    judge_scenes,
    scene_backbone,
    train_scene_backbone,
)


def test_released_backbone_tells_what_stands_where():
    """As its record says: at least 90 % of scenes never seen, and pairs never seen."""
    found = judge_scenes(scene_backbone(head=True), "test", 300)
    assert found["scenes"] > 0.9
    assert found["held_out_objects"] > 0.7


def test_released_backbone_gives_a_grid():
    backbone = scene_backbone()
    assert backbone.input_shape == (None, 48, 48, 3)
    assert backbone.output_shape[1:3] == (6, 6)
    assert not backbone.trainable


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="no other with this backend")
def test_training_begins_to_learn():
    settings = device_settings(precision="float32")
    *_, history = train_scene_backbone(0, 2, 300, settings, progress=False)
    assert history["loss"].iloc[1] < 0.8 * history["loss"].iloc[0]


def test_half_of_the_scenes_are_tinted_and_not_asked_for_colours():
    scenes = synthetic_scenes("train", 40)
    data = ImageData(
        images=scenes.pixels,
        labels=np.zeros(40, "int32"),
        classes=("scene",),
        name="scenes",
        split="train",
    )
    targets = scene_labels(scenes.scenes)
    before = scenes.pixels.copy()
    batches = module._WithLabels(data, targets, 40, seed=0)
    images, found = batches[0]
    order = batches.indices(0)
    tinted = (found[..., COLOUR_LABELS] == -1).all(axis=(1, 2, 3))
    assert 10 <= tinted.sum() <= 30
    assert (found[~tinted] == targets[order][~tinted]).all()
    others = [i for i in range(len(LABELS)) if i not in COLOUR_LABELS]
    assert (found[..., others] == targets[order][..., others]).all()
    same = (images == scenes.pixels[order]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, ~tinted)
    np.testing.assert_array_equal(scenes.pixels, before)  # the data itself is left alone
    assert (batches[0][0] == images).all()


def test_asked_cross_entropy_by_hand():
    targets = np.array([[1.0, 0.0, -1.0]])
    logits = np.array([[0.0, 0.0, 50.0]])
    assert float(asked_cross_entropy(targets, logits)) == pytest.approx(np.log(2), rel=1e-5)
    assert float(asked_cross_entropy(-np.ones((1, 3)), logits)) == 0


def test_damaged_files_are_named(tmp_path, monkeypatch):
    record = json.loads(
        (module.released_folder(module.CAPTIONING) / "scenes/record.json").read_text()
    )
    monkeypatch.setattr(module, "released_folder", lambda phase: tmp_path)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "record.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"model\.weights\.h5 is missing or damaged"):
        scene_backbone()


def test_features_do_not_depend_on_the_batch():
    backbone = scene_backbone()
    pixels = synthetic_scenes("dev", 4).pixels
    together = ops.convert_to_numpy(backbone(pixels, training=False))
    alone = ops.convert_to_numpy(backbone(pixels[2:3], training=False))
    np.testing.assert_allclose(together[2:3], alone, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="no other with this backend")
def test_release_writes_weights_and_their_record(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "released_folder", lambda phase: tmp_path)
    monkeypatch.setattr(
        module, "synthetic_scenes", lambda split, count=None: synthetic_scenes(split, 100)
    )
    monkeypatch.setattr(
        module,
        "train_scene_backbone",
        lambda seed, settings: train_scene_backbone(seed, 1, 100, settings, progress=False),
    )
    folder, record = module.release_scene_backbone()
    assert folder == tmp_path / "scenes"
    assert record == json.loads((folder / "record.json").read_text())
    assert record["metrics"]["test_n"] == 100 and 0 <= record["metrics"]["test_labels"] <= 1
    found = judge_scenes(scene_backbone(head=True), "test", 100)
    assert found["labels"] == pytest.approx(record["metrics"]["test_labels"])
