import json
from dataclasses import replace

import numpy as np
import pytest
from small import small_data

from common.errors import ConfigError, DataError
from common.evaluation.classification import evaluate, keep_scores
from common.layers import PatchWhitening, RandomStain, RandomSymmetry
from common.models.resnet import ResNetConfig, preset, with_pixel_statistics
from common.training.backend import device_settings
from common.training.classification import (
    Classification,
    own_label,
    train_named,
    trained_config,
)
from common.training.experiment import run_config, run_label, train
from common.training.finder import learning_rate_range_test
from common.training.recipes import Recipe, ablations, recipe
from common.training.released import load_model
from common.training.runs import Run

CONFIG = ResNetConfig(blocks=(1,), widths=(4,))
PLAN = Recipe(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.1, momentum=0.9,
              sizes=((0.5, 6), (0.5, 4)), shift=1)  # fmt: skip
SETTINGS = device_settings(precision="float32")


def make_run(root, network=CONFIG, plan=PLAN, data=None):
    learns = Classification(network, small_data() if data is None else data)
    config = run_config(learns, plan, SETTINGS, phase="phase1_cifar", dataset="small",
                        profile="smoke", data={"n_test": 3})  # fmt: skip
    return Run("experiment", config, root)


def train_resnet(config, plan, data, held, **options):
    return train(Classification(config, data, held), plan, SETTINGS, progress=False, **options)


def test_a_run_is_trained_once_and_then_read(tmp_path):
    run, data = make_run(tmp_path), small_data()
    first = train_resnet(CONFIG, PLAN, data, data, run=run)
    changed = (run.folder / "model.keras").stat().st_mtime_ns
    again = train_resnet(CONFIG, PLAN, data, data, run=make_run(tmp_path))
    assert (run.folder / "model.keras").stat().st_mtime_ns == changed
    np.testing.assert_allclose(
        again.network.predict(data.images, verbose=0),
        first.network.predict(data.images, verbose=0),
        atol=1e-6,
    )
    assert again.history["epoch"].tolist() == [1, 2]


def test_files_that_a_kill_or_somebody_took_are_made_again(tmp_path):
    run, data = make_run(tmp_path), small_data()
    before = train_resnet(CONFIG, PLAN, data, data, run=run).network.get_weights()
    for name in ("history.csv", "model.keras"):
        (run.folder / name).unlink()
    again = train_resnet(CONFIG, PLAN, data, data, run=run)
    for one, other in zip(again.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.history["epoch"].tolist() == [1, 2] and run.record["epochs"] == 2
    load_model(run.folder)


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_has_a_record_as_soon_as_it_is_trained(tmp_path, validated):
    run, data = make_run(tmp_path), small_data()
    held = data if validated else None
    trained = train_resnet(CONFIG, PLAN, data, held, run=run)
    record = run.record
    assert record["epochs"] == 2 and record["parameters"] == trained.network.count_params()
    found = {"val_accuracy": trained.history["val_accuracy"].iloc[-1]} if validated else {}
    assert record["metrics"] == pytest.approx(found)
    # Killed before it: written once the run is called again; a later one stays.
    (run.folder / "record.json").unlink()
    train_resnet(CONFIG, PLAN, data, held, run=run)
    assert run.record["metrics"] == pytest.approx(found)
    run.save_record(metrics={"test_accuracy": 0.5})
    train_resnet(CONFIG, PLAN, data, held, run=run)
    assert run.record["metrics"] == {"test_accuracy": 0.5}


def test_a_run_is_judged_in_float32_and_knows_what_it_is_of(tmp_path):
    """Whatever it was trained in, now and when it is found again."""
    half = replace(SETTINGS, precision="mixed_bfloat16")
    run, data = make_run(tmp_path), small_data()
    learns = Classification(CONFIG, data, data)
    for _ in range(2):
        trained = train(learns, PLAN, half, run=run, progress=False)
        assert {layer.compute_dtype for layer in trained.network.layers} == {"float32"}
    assert run.config["data"] == {
        "name": data.name, "fingerprint": data.fingerprint(), "n_train": 64, "n_val": 0,
        "n_test": 3,
    }  # fmt: skip
    assert run_label("own", "smoke", "fast", seed=1, blocks=2, epochs=None) == (
        "own-smoke-fast-seed1-blocks2"
    )


def test_a_record_tells_whose_images_trained_the_network(tmp_path):
    """And which they were is told by their fingerprint: the names are not compared."""
    data = replace(small_data(), groups=np.repeat(["b", "a"], 32))
    run = make_run(tmp_path, data=data)
    train(Classification(CONFIG, data), PLAN, SETTINGS, run=run, progress=False)
    assert run.record["trained_on"] == ["a", "b"] and "trained_on" not in run.config


def test_runs_on_own_data_carry_its_name_and_fingerprint(tmp_path):
    data = small_data()
    assert own_label("cifar10", data) == "cifar10"
    folder = tmp_path / "Cats & dogs"
    for name in (folder, f"folder:{folder}", f"{folder}/"):
        assert own_label(str(name), data) == f"own-Cats-dogs-{data.fingerprint()[:8]}"
    changed = replace(data, images=255 - data.images)
    assert own_label(str(folder), changed) != own_label(str(folder), data)


def test_a_finished_run_is_loaded_by_name_or_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    run = make_run(tmp_path / "runs")
    with pytest.raises(ConfigError, match="has not finished"):
        load_model("experiment")
    train_resnet(CONFIG, PLAN, small_data(), None, run=run)
    model, record = load_model("experiment")
    assert record["classes"] == list(small_data().classes)
    assert load_model(str(run.folder))[1] == record
    assert model.predict(small_data().images[:2], verbose=0).shape == (2, 4)
    with pytest.raises(ConfigError, match="no run 'missing'"):
        load_model("missing")


def test_phase_2_from_recipe_to_the_model_of_its_record(tmp_path):
    data = small_data(32, classes=2)
    network = with_pixel_statistics(CONFIG, data.images)
    plan = recipe("smoke", phase="phase2_histopathology", epochs=1, batch_size=16, shift=0,
                  colour=0.0, imbalance="class_weights", sizes=((1.0, 6),))  # fmt: skip
    run = make_run(tmp_path, network, plan, data)
    trained = train_resnet(network, plan, data, None, run=run)
    assert trained.network.get_layer("scaling").mean == network.mean != CONFIG.mean
    untrained = Classification(network, data).build(plan)
    assert [type(layer) for layer in untrained.layers[2:4]] == [RandomSymmetry, RandomStain]
    assert untrained.layers[3].std == network.std
    run.save_record()
    model, record = load_model(str(run.folder))
    assert record["network"]["mean"] == list(network.mean)
    np.testing.assert_allclose(
        model.predict_on_batch(data.images),
        trained.network.predict_on_batch(data.images),
        atol=1e-5,
    )


def test_whitening_is_adapted_to_training_images_of_all_groups(monkeypatch):
    """Where images stand patient by patient, the first ones would be those of a few patients."""
    data = small_data(24)
    seen = []
    monkeypatch.setattr(PatchWhitening, "adapt", lambda self, images: seen.append(len(images)))
    monkeypatch.setattr("common.training.classification.spread", lambda images: images[::2])
    network = preset("fast_small", widths=(8, 8, 8))
    Classification(network, data, small_data(8)).build(PLAN)
    Classification(network, replace(data, groups=np.repeat(["a", "b"], 12))).build(PLAN)
    assert seen == [24, 12]


def test_the_network_ends_at_the_size_that_training_ended_with():
    assert trained_config(CONFIG, PLAN).image_size == 4
    assert trained_config(CONFIG, Recipe(epochs=1)).image_size is None


def test_range_test_raises_the_rate_step_by_step():
    table = learning_rate_range_test(
        CONFIG, PLAN, small_data(), SETTINGS, low=1e-3, high=1e-1, steps=6
    )
    assert len(table) == 6
    np.testing.assert_allclose(table["learning_rate"].iloc[[0, 3]], [1e-3, 1e-2], rtol=1e-6)
    assert (table["loss"] > 0).all()


def test_range_test_ends_when_the_loss_explodes():
    """Before the broken network tells all classes alike, with a loss that is low again."""
    table = learning_rate_range_test(
        CONFIG, PLAN, small_data(), SETTINGS, low=1e-2, high=1e4, steps=60
    )
    smooth = table["smooth_loss"]
    assert len(table) < 50 and smooth.idxmin() < len(table) - 1
    assert smooth.iloc[-1] > 1.3 * smooth.min()
    assert (smooth.iloc[:-1] <= 1.3 * smooth.iloc[:-1].cummin()).all()


def test_range_test_minimises_what_the_recipe_minimises():
    def first_loss(**changes):
        table = learning_rate_range_test(
            CONFIG, replace(PLAN, **changes), small_data(), SETTINGS, low=1e-6, steps=1
        )
        return table["loss"].iloc[0]

    assert first_loss(imbalance="focal") < 0.9 * first_loss()
    with pytest.raises(DataError, match="to balance batches"):
        one_class = small_data().subset([0, 4])
        learning_rate_range_test(
            CONFIG, replace(PLAN, imbalance="balanced_batches"), one_class, SETTINGS
        )


def test_each_ablation_changes_the_recipe():
    variants = ablations(recipe("laptop"))
    whole = variants.pop("whole recipe")
    assert len(variants) >= 5
    assert all(variant != whole for variant in variants.values())


def test_a_lessons_training_is_named_by_what_it_is_of_and_keeps_its_scores(tmp_path, monkeypatch):
    """The names and configurations that runs on people's disks have: lessons find them again."""
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    train_on, held, test = small_data(64), small_data(16, seed=1), small_data(20, seed=2)
    learns = Classification(CONFIG, train_on, held)
    about = {"phase": "phase1_cifar", "dataset": "synthetic", "profile": "smoke", "seed": 3}
    about["data"] = {"n_test": 20}

    def trained(**changed):
        changed = {"stages": None, "epochs": 2, **changed}
        return train_named(
            learns, PLAN, SETTINGS, "tiny", run_name=None, about=about, changed=changed
        )

    first = trained()
    assert first.run.name == "synthetic-smoke-tiny-seed3-epochs2"
    assert first.run.config == json.loads(json.dumps({
        **{"phase": "phase1_cifar", "dataset": "synthetic", "profile": "smoke", "seed": 3},
        "network": trained_config(CONFIG, PLAN).to_dict(), "classes": list(train_on.classes),
        "recipe": PLAN.to_dict(), "backend": SETTINGS.backend,
        "data": {"name": "small", "fingerprint": train_on.fingerprint(), "n_train": 64,
                 "n_val": 16, "n_test": 20},
    }))  # fmt: skip
    assert trained().history.equals(first.history)  # found again
    scores = keep_scores(first, test, held)
    assert scores == evaluate(first.network, test)
    record = first.run.record
    assert record["metrics"]["test_accuracy"] == scores["accuracy"]
    assert record["metrics"]["val_accuracy"] == first.history["val_accuracy"].iloc[-1]
    assert record["calibration"]["n"] == 16 and record["epochs"] == 2 and record["macs"] > 0
    keep_scores(first, test, None)
    assert first.run.record["calibration"] is None
