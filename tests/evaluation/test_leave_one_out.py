import gc
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from small import small_data

from common.errors import CourseError, DataError
from common.evaluation import leave_one_out
from common.evaluation.leave_one_out import left_out_thresholds, predict_left_out
from common.models.resnet import ResNetConfig
from common.training import experiment
from common.training.backend import device_settings
from common.training.recipes import Recipe

CONFIG = ResNetConfig(blocks=(1,), widths=(4,))
PLAN = Recipe(epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1, flip="none", shift=0)
SETTINGS = device_settings(precision="float32")
PATIENTS = np.repeat(["a", "b", "c"], 8)


def grouped_data():
    data = small_data(24, classes=2)
    return replace(data, groups=PATIENTS)


@pytest.fixture
def trainings(monkeypatch):
    """The patients of each training, as they come."""
    seen, train = [], experiment.train

    def watched(learns, *args, **kwargs):
        seen.append(sorted(set(learns.train.groups)))
        return train(learns, *args, **kwargs)

    monkeypatch.setattr(experiment, "train", watched)
    return seen


def test_nobody_is_predicted_by_a_network_that_knows_her(trainings):
    probability = predict_left_out(CONFIG, PLAN, grouped_data(), SETTINGS, progress=False)
    assert probability.shape == (24,) and probability.dtype == np.float32
    assert ((probability >= 0) & (probability <= 1)).all()
    assert trainings == [["b", "c"], ["a", "c"], ["a", "b"]]


def kept(folder, patient):
    [path] = folder.glob(f"{patient}-*.predictions")
    return path


def test_a_killed_call_goes_on_with_the_next_patient(trainings, tmp_path):
    data = grouped_data()
    whole = predict_left_out(CONFIG, PLAN, data, SETTINGS, folder=tmp_path, progress=False)
    kept(tmp_path, "b").unlink()
    trainings.clear()
    again = predict_left_out(CONFIG, PLAN, data, SETTINGS, folder=tmp_path, progress=False)
    assert trainings == [["a", "c"]]
    np.testing.assert_array_equal(again, whole)


@pytest.fixture
def no_network(monkeypatch):
    """Predictions without a training: how often each patient was asked for."""
    asked = []

    def predicted(config, recipe, train, test, settings, seed, tta):
        asked.append(str(test.groups[0]))
        return np.full(len(test), len(asked) / 100, "float32")

    monkeypatch.setattr(leave_one_out, "_predict_one", predicted)
    return asked


def left_out(folder, data=None, config=CONFIG, plan=PLAN, settings=SETTINGS, **more):
    data = grouped_data() if data is None else data
    return predict_left_out(config, plan, data, settings, folder=folder, progress=False, **more)


def changed_pixel():
    data = grouped_data()
    images = data.images.copy()
    images[0, 0, 0, 0] ^= 1
    return replace(data, images=images)


@pytest.mark.parametrize(
    "change",
    [
        {"data": changed_pixel()},
        {"data": replace(grouped_data(), labels=1 - grouped_data().labels)},
        {"data": replace(grouped_data(), groups=np.roll(PATIENTS, 1))},
        {"config": replace(CONFIG, widths=(5,))},
        {"plan": replace(PLAN, epochs=2)},
        {"settings": replace(SETTINGS, backend="another")},
        {"seed": 1},
        {"tta": "symmetries"},
    ],
    ids=["pixel", "labels", "groups", "network", "recipe", "backend", "seed", "tta"],
)
def test_what_was_made_of_something_else_is_not_taken(change, no_network, tmp_path):
    before = left_out(tmp_path)
    changed = left_out(tmp_path, **change)
    assert no_network == ["a", "b", "c"] * 2
    assert not np.isin(changed, before).any()
    np.testing.assert_array_equal(left_out(tmp_path), before)  # each has its own files
    assert len(no_network) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-4],
        lambda content: content + b"\0" * 4,
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: b"\x93NUMPY" + content,
    ],
    ids=["empty", "cut", "longer", "a bit", "a bit of the checksum", "other"],
)
def test_damaged_predictions_are_made_anew_with_a_warning(damage, no_network, tmp_path, caplog):
    left_out(tmp_path)
    path = kept(tmp_path, "b")
    path.write_bytes(damage(path.read_bytes()))
    again = left_out(tmp_path)
    assert no_network == ["a", "b", "c", "b"] and (again[8:16] == np.float32(0.04)).all()
    assert str(path) in caplog.text and "damaged" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(left_out(tmp_path), again)
    assert len(no_network) == 4 and not caplog.text


def test_another_patients_file_is_no_answer(no_network, tmp_path):
    left_out(tmp_path)
    kept(tmp_path, "b").write_bytes(kept(tmp_path, "a").read_bytes())
    left_out(tmp_path)
    assert no_network == ["a", "b", "c", "b"]


def test_a_folder_in_the_way_is_told_before_the_training(no_network, tmp_path):
    left_out(tmp_path)
    path = kept(tmp_path, "b")
    path.unlink()
    path.mkdir()
    with pytest.raises(CourseError, match="move it"):
        left_out(tmp_path)
    assert len(no_network) == 3


ODD_IDS = ["../../up", "a/b", "a b", "CON", "\udcff", "x" * 400, "", "a\nb", "*?"]


def test_any_patient_has_a_file(no_network, tmp_path):
    folder = tmp_path / "kept"
    data = replace(small_data(18, classes=2), groups=np.repeat(ODD_IDS, 2))
    before = left_out(folder, data)
    assert len(no_network) == len(ODD_IDS) == len(list(folder.glob("*.predictions")))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    np.testing.assert_array_equal(left_out(folder, data), before)
    assert len(no_network) == len(ODD_IDS)


def test_patients_may_be_numbers(no_network, tmp_path):
    data = replace(grouped_data(), groups=np.repeat([3, 1, 2], 8))
    np.testing.assert_array_equal(
        left_out(tmp_path, data), np.repeat(np.float32([0.03, 0.01, 0.02]), 8)
    )


def test_a_second_call_in_the_folder_waits_for_the_first(no_network, monkeypatch, tmp_path):
    held = []

    @contextmanager
    def hold(path, what):
        held.append(path)
        yield

    monkeypatch.setattr(leave_one_out, "hold", hold)
    left_out(tmp_path)
    assert held == [tmp_path / ".lock"]


def test_a_training_leaves_nothing_in_memory():
    def objects():
        leave_one_out._predict_one(CONFIG, PLAN, data, data, SETTINGS, 0, False)
        return len(gc.get_objects())

    data = small_data(16, classes=2)
    objects()  # what is made once
    assert -objects() + objects() < 2000  # a graph that stays has ten thousand and more


def test_one_patient_is_too_few():
    data = replace(grouped_data(), groups=np.repeat("a", 24))
    with pytest.raises(DataError):
        predict_left_out(CONFIG, PLAN, data, SETTINGS, progress=False)


def test_a_patients_threshold_comes_from_the_others():
    labels = np.array([0, 1, 0, 1, 0, 1])
    probability = np.array([0.1, 0.3, 0.2, 0.6, 0.7, 0.9])
    patients = np.array(["a", "a", "b", "b", "c", "c"])
    thresholds = left_out_thresholds(labels, probability, patients)
    # Without a: best from 0.6 (both found, one false alarm at 0.7); without b: 0.9 and 0.3 with
    # one false alarm; without c: a gap between 0.2 and 0.3.
    np.testing.assert_allclose(thresholds, [0.4, 0.4, 0.2, 0.2, 0.25, 0.25])
    with pytest.raises(DataError, match="best threshold"):
        left_out_thresholds(np.array([0, 0, 1, 1]), np.full(4, 0.5), np.array(list("aabb")))
