from dataclasses import replace

import numpy as np
import pytest
from small import small_data

from common import choices
from common.errors import ConfigError, DataError
from common.files import write_json
from common.models.resnet import ResNetConfig
from common.training import studies
from common.training.backend import device_settings
from common.training.recipes import Recipe
from common.training.studies import Arm, ImageStudy, base, find_study, read_results


@pytest.fixture
def study():
    plan = Recipe(epochs=2, batch_size=16, optimizer="sgd", flip="none", shift=0)
    arms = {
        kind: Arm(ResNetConfig(blocks=(1,), widths=(4,), residual=kind == "residual"), plan)
        for kind in ("plain", "residual")
    }
    return ImageStudy("tiny", "phase1_cifar", "Which?", arms, images=32, seeds=(0, 1))


@pytest.fixture
def parts():
    return small_data(48), small_data(16, seed=1)


@pytest.fixture
def settings():
    return device_settings(precision="float32")


def test_every_arm_with_every_seed_is_kept_and_found_again(study, parts, settings, monkeypatch):
    kept = [list(results["rows"]) for results in study.run("own", *parts, settings)]
    assert [len(rows) for rows in kept] == [1, 2, 3, 4]
    done = [(row["arm"], row["seed"]) for row in kept[-1]]
    assert done == [("plain", 0), ("residual", 0), ("plain", 1), ("residual", 1)]
    assert all(row["epochs"] == 2 and row["macs"] > 0 and row["processor"] for row in kept[-1])
    assert len({row["val_loss"] for row in kept[-1]}) == 4
    # Called again, nothing is trained.
    monkeypatch.setattr("common.training.classification.fit", None)
    assert list(study.run("own", *parts, settings))[-1]["rows"] == kept[-1]


def test_results_are_read_again(study, parts, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "beside_lessons", lambda phase, name: tmp_path / phase / name)
    with pytest.raises(DataError, match="no results of the study tiny .*study phase1 tiny"):
        read_results("phase1_cifar", "tiny")
    *_, results = study.run("own", *parts, settings)
    write_json(studies.results_file("phase1_cifar", "tiny"), results)
    table, about = read_results("phase1_cifar", "tiny")
    assert table["arm"].tolist() == ["plain", "residual"] * 2
    assert table["history"][0]["loss"][-1] == pytest.approx(table["loss"][0], abs=1e-5)
    assert about["command"] == "python -m common.course study phase1 tiny"
    assert about["data"]["n_train"] == 32 and about["data"]["n_val"] == 16
    write_json(studies.results_file("phase1_cifar", "tiny"), {"rows": [1]})
    with pytest.raises(DataError, match="damaged"):
        read_results("phase1_cifar", "tiny")


def test_an_arm_of_ones_own_run_all(study, parts, settings):
    short = study.shortened(images=16, epochs=1, batch_size=8)
    trained = short.train("plain", *parts, settings, progress=False)
    assert trained.run is None and len(trained.history) == 1
    with pytest.raises(ConfigError, match="no arm 'plan'. Did you mean 'plain'"):
        study.train("plan", *parts, settings)


def patients(count, first):
    """Patches of two classes, four to a patient."""
    made = small_data(count, classes=2, seed=first)
    return replace(made, groups=np.array([f"p{first + i // 4:02}" for i in range(count)]))


def test_scores_of_patients_are_kept(study, settings, monkeypatch):
    """Arms may divide the patches anew, and what judges them is asked once for each training."""
    leak = find_study("phase2_histopathology", "leak")
    arms = {
        name: replace(arm, network=study.arms["plain"].network, recipe=study.arms["plain"].recipe)
        for name, arm in leak.arms.items()
    }
    leak = replace(leak, arms=arms, seeds=(0, 1))
    train, validation, asked = patients(48, 0), patients(16, 20), []

    def judge(network, held):
        asked.append(held)
        return {"f1": float(len(asked)) / 10, "precision": 0.5}

    *_, results = leak.run("own", train, validation, settings, judge)
    assert [row["f1"] for row in results["rows"]] == [0.1, 0.2, 0.3, 0.4]
    assert {(row["precision"], row["computed_in"]) for row in results["rows"]} == {(0.5, "float32")}
    assert results["data"]["patients_train"] == 12 and results["data"]["patients_val"] == 4
    everyone = set(train.groups) | set(validation.groups)
    for seed in leak.seeds:
        for arm in leak.arms:
            parts = leak.learns(arm, train, validation, seed)
            names = set(parts.train.groups), set(parts.validation.groups)
            assert len(parts.train) + len(parts.validation) == 64
            assert set.union(*names) == everyone
            assert bool(set.intersection(*names)) == (arm == "patches at random")
    assert not np.array_equal(asked[1].groups, asked[3].groups)  # divided anew with each seed
    *_, again = leak.run("own", train, validation, settings, judge)
    assert len(asked) == 4 and again["rows"] == results["rows"]


def test_every_patient_is_judged_once_by_a_network_that_has_not_seen_it():
    folds, data = find_study("phase2_histopathology", "folds"), patients(80, 0)
    assert folds.everyone
    judged = []
    for arm in folds.arms:
        parts = folds.learns(arm, data, data)
        told = parts.describe(folds.arms[arm].recipe)
        held = set(parts.validation.groups)
        assert held and not held & set(told["trained_on"])
        assert held | set(told["trained_on"]) == set(data.groups)
        judged += sorted(held)
    assert sorted(judged) == sorted(set(data.groups))


def test_normalised_stains_are_of_the_training_patients():
    normalised = find_study("phase2_histopathology", "stain").arms["normalised"]
    train, validation, _ = (patients(12, first) for first in (0, 20, 40))
    learned, held = normalised.parts(train, validation, 0)
    assert not np.array_equal(learned.images, train.images)
    np.testing.assert_array_equal(learned.groups, train.groups)
    # What is done to the training patients does not depend on whom they are compared with.
    other, _ = normalised.parts(train, patients(12, 60), 0)
    np.testing.assert_array_equal(learned.images, other.images)
    assert held.images.shape == validation.images.shape


def test_the_studies_are_what_is_told_of_them():
    assert {phase: tuple(makers) for phase, makers in studies.MAKERS.items()} == choices.STUDIES
    for phase, names in choices.STUDIES.items():
        for name in names:
            try:
                found = find_study(phase, name)
            except DataError as missing:  # it is made of the times of another one
                assert name == "stages_blocks_time" and "stages_blocks" in str(missing)
                continue
            assert (found.name, found.phase) == (name, phase) and len(found.arms) > 1
            if phase == "phase3_captioning":  # see test_caption_studies.py
                continue
            same = [replace(arm.recipe, epochs=1) for arm in found.arms.values()]
            # What a study does not ask about is the same in all arms.
            if phase == "phase1_cifar" and name not in ("ablation", "resnet20") or name == "leak":
                assert len(set(same)) == 1
    with pytest.raises(ConfigError, match="Did you mean 'ablation'"):
        find_study("phase1_cifar", "ablations")
    with pytest.raises(ConfigError, match="phase3_captioning has no study 'ablation'"):
        find_study("phase3_captioning", "ablation")


def test_no_plain_sgd_trains_a_head_made_for_muon():
    """The fast net's logits are scaled down for Muon's rates: with SGD's it hardly learns."""
    compared = 0
    for phase, names in list(choices.STUDIES.items())[:2]:
        for name in set(names) - {"stages_blocks_time"}:
            for arm in find_study(phase, name).arms.values():
                if arm.recipe.optimizer == "sgd":
                    assert arm.network.head_scale is None
                    compared += 1
    assert compared > 5


def test_kept_results_are_of_the_studies():
    for phase, names in choices.STUDIES.items():
        for name in names:
            path = studies.results_file(phase, name)
            if not path.is_file():
                continue
            study = find_study(phase, name)
            table, about = read_results(phase, name)
            assert set(table["arm"]) == set(study.arms)
            assert (about["question"], about["command"]) == (study.question, study.command)
            assert np.isfinite(table["val_loss"]).all()
