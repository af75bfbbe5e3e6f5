from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from common.course.cli import app
from common.data.images import ImageData
from common.evaluation.classification import predict_logits
from common.evaluation.leave_one_out import left_out_thresholds
from common.evaluation.neighbours import (
    Neighbourhood,
    left_out_neighbourhoods,
    left_out_probability,
    log_odds,
)
from common.evaluation.patches import score_predictions, unseen_logits
from common.files import read_json
from common.models.ensemble import Ensemble
from common.models.resnet import ResNetConfig, resnet
from common.training import released
from common.training.runs import Run


@pytest.fixture
def finished_run(monkeypatch, tmp_path):
    """A finished run of an untrained network, in a repository of the test's own."""
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    network = ResNetConfig(blocks=(1,), widths=(8,))
    classes = [f"class{i}" for i in range(10)]
    config = {"phase": "phase1_cifar", "dataset": "synthetic", "data": {}}
    config |= {"network": network.to_dict(), "classes": classes}
    run = Run("first", config)
    keras.utils.set_random_seed(0)
    run.save_model(resnet(network))
    run.save_record(metrics={"test_accuracy": 1.0, "val_accuracy": 0.5})
    return run


def test_release_writes_the_figures_of_the_written_file(finished_run, monkeypatch, tmp_path):
    test = ImageData(
        images=np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
        labels=np.arange(20, dtype="int32") % 10,
        classes=tuple(finished_run.config["classes"]),
        name="noise",
        split="test",
    )
    monkeypatch.setattr("common.data.load_images", lambda dataset, split: test)
    result = CliRunner().invoke(app, ["release", "phase1", "--run", "first"])
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "phase1_cifar" / "weights" / "record.json")
    model, _ = released.load_model()
    right = model.predict_on_batch(test.images).argmax(axis=1) == test.labels
    assert record["metrics"]["test_accuracy"] == pytest.approx(right.mean())
    assert record["metrics"]["test_accuracy"] < 1  # not the figure of the run
    assert record["metrics"]["val_accuracy"] == 0.5
    assert record["data"]["n_test"] == 20


def test_an_unfinished_run_is_not_released(finished_run, tmp_path):
    (finished_run.folder / "record.json").unlink()
    result = CliRunner().invoke(app, ["release", "phase1", "--run", "first"])
    assert result.exit_code == 2
    assert "has not finished" in result.output
    assert not (tmp_path / "phase1_cifar").exists()


def test_a_run_is_released_for_its_own_phase(finished_run, tmp_path):
    result = CliRunner().invoke(app, ["release", "phase2", "--run", "first"])
    assert result.exit_code == 2
    assert "'first' is one of phase1_cifar, not of phase2_histopathology" in result.stderr
    assert not (tmp_path / "phase2_histopathology").exists()


def test_phase_2_is_released_with_the_figures_of_its_run(monkeypatch, tmp_path):
    """Those of the patients left out: nobody is left to score the weights themselves on."""
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    network, classes = ResNetConfig(blocks=(1,), widths=(8,)), ["benign", "malignant"]
    phase = "phase2_histopathology"
    run = Run("tissue", {"phase": phase, "network": network.to_dict(), "classes": classes})
    model = resnet(network, 2)
    run.save_model(model)
    run.save_record(metrics={"left_out_f1": 0.75}, threshold=0.4, tta="symmetries")
    result = CliRunner().invoke(app, ["release", "phase2", "--run", "tissue"])
    assert result.exit_code == 0, result.output
    loaded, record = released.load_model(phase=phase)
    assert (record["metrics"], record["threshold"]) == ({"left_out_f1": 0.75}, 0.4)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def release_runs(phase, *runs):
    named = [word for run in runs for word in ("--run", run)]
    return CliRunner().invoke(app, ["release", phase, *named])


def noise(count, classes, **more):
    rng = np.random.default_rng(count)
    return ImageData(
        images=rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        labels=rng.integers(0, classes, count).astype("int32"),
        classes=tuple(f"class{i}" for i in range(classes)),
        name="noise",
        split="test",
        **more,
    )


def save_run(name, phase, data, widths=(8,), seed=0, **config):
    """A finished run of an untrained network, and the network."""
    keras.utils.set_random_seed(seed)
    network = ResNetConfig(blocks=(1,), widths=widths)
    model = resnet(network, len(data.classes))
    told = {"name": data.name, "n_train": 3 * len(data), "n_val": len(data)}
    config |= {"phase": phase, "dataset": "noise", "profile": "laptop", "seed": seed, "data": told}
    config |= {"network": network.to_dict(), "classes": data.classes}
    run = Run(name, config)
    run.save_model(model)
    run.save_record(metrics={"val_accuracy": 0.5}, parameters=model.count_params(), seconds=60.0)
    return model


@pytest.fixture
def repository(monkeypatch, tmp_path):
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


def test_several_runs_are_released_as_their_mean(repository, monkeypatch):
    test, validation = noise(20, 10), noise(30, 10)
    models = [
        save_run("one", "phase1_cifar", test, recipe={"epochs": 3, "corruption": 0.4}),
        save_run("two", "phase1_cifar", test, (6,), 1, recipe={"epochs": 3, "corruption": 0.1}),
    ]
    monkeypatch.setattr("common.data.load_images", lambda dataset, split: test)
    monkeypatch.setattr(
        "common.course.examined.load_splits", lambda *_, **__: (None, validation, test)
    )
    result = release_runs("phase1", "one", "two")
    assert result.exit_code == 0, result.output
    network, record = released.load_model()
    assert isinstance(network, Ensemble)
    logits = np.mean([model.predict_on_batch(test.images) for model in models], axis=0)
    np.testing.assert_allclose(network.predict_on_batch(test.images), logits, rtol=0.01, atol=0.01)
    metrics = record["metrics"]
    right = network.predict_on_batch(test.images).argmax(axis=1) == test.labels
    assert metrics["test_accuracy"] == pytest.approx(right.mean())
    right = network.predict_on_batch(validation.images).argmax(axis=1) == validation.labels
    assert metrics["val_accuracy"] == pytest.approx(right.mean())  # not that of the runs
    assert (record["calibration"]["n"], record["data"]["n_test"]) == (30, 20)
    # What they share at the top, the rest with each.
    assert record["run_name"] == "one and 1 more" and record["seconds"] == 120
    assert record["recipe"] == {"epochs": 3} and "seed" not in record
    assert record["parameters"] == network.count_params()
    one, two = record["members"]
    assert (one["seed"], two["seed"]) == (0, 1)
    assert (one["recipe"]["corruption"], two["recipe"]["corruption"]) == (0.4, 0.1)
    assert "classes" not in one and one["run_name"] == "one"


def test_an_ensemble_of_patches_is_judged_by_members_that_have_not_seen_them(
    repository, monkeypatch
):
    data = noise(60, 2, groups=np.repeat(["p", "q", "r"], 20))
    places = np.stack(np.meshgrid(np.arange(4), np.arange(5)), axis=-1).reshape(-1, 2)
    data = replace(data, positions=np.tile(50 * places, (3, 1)).astype("int32"))
    phase, seen = "phase2_histopathology", (["p", "q"], ["q", "r"], ["p", "r"])
    models = [
        save_run(f"fold{i}", phase, data, seed=i, trained_on=patients)
        for i, patients in enumerate(seen)
    ]
    monkeypatch.setattr("common.data.load_patches", lambda dataset: data)
    result = release_runs("phase2", "fold0", "fold1", "fold2")
    assert result.exit_code == 0, result.output
    network, record = released.load_model(phase=phase)
    z = log_odds(unseen_logits(network, record, data))
    assert record["tta"] == "symmetries"
    logits = np.concatenate(  # p by the second, q by the third, r by the first
        [
            predict_logits(models[i], data.images[part], tta="symmetries")
            for i, part in ((1, slice(20)), (2, slice(20, 40)), (0, slice(40, 60)))
        ]
    )
    np.testing.assert_allclose(z, logits[:, 1] - logits[:, 0], atol=0.05)
    metrics = record["metrics"]
    fitted = left_out_neighbourhoods(z, data.labels, data.groups, data.positions)
    found = left_out_probability(fitted, z, data.groups, data.positions)
    for prefix, probability in (("left_out_", found), ("left_out_alone_", expit(z))):
        thresholds = left_out_thresholds(data.labels, probability, data.groups)
        expected = score_predictions(data, probability, thresholds).metrics(prefix)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    around = Neighbourhood.fit(z, data.labels, data.groups, data.positions)
    assert record["neighbours"] == pytest.approx(around.to_dict())
    assert 0 <= metrics["left_out_jpeg75_f1_low"] <= metrics["left_out_jpeg75_f1"]
    assert 0 < record["threshold"] < 1 and record["data"]["patients"] == 3


@pytest.mark.parametrize(
    ("phase", "runs", "told"),
    [
        ("phase1", ("one", "other"), "'other' is one of phase2_histopathology"),
        ("phase1", ("one", "three"), "'three' tells other classes than 'one'"),
        ("phase3", ("one", "one"), "Captioners are not averaged: name one --run."),
    ],
)
def test_what_cannot_be_averaged(repository, phase, runs, told):
    save_run("one", "phase1_cifar", noise(20, 10))
    save_run("three", "phase1_cifar", noise(20, 3))
    save_run("other", "phase2_histopathology", noise(20, 10))
    result = release_runs(phase, *runs)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (repository / "phase1_cifar").exists()
