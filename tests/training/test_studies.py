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
from common.training.studies import Arm, Study, find_study, read_results


@pytest.fixture
def study():
    plan = Recipe(epochs=2, batch_size=16, optimizer="sgd", flip="none", shift=0)
    arms = {
        kind: Arm(ResNetConfig(blocks=(1,), widths=(4,), residual=kind == "residual"), plan)
        for kind in ("plain", "residual")
    }
    return Study("tiny", "phase1_cifar", "Which?", arms, images=32, seeds=(0, 1))


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
    monkeypatch.setattr(studies, "beside_lessons", lambda phase, name: tmp_path / phase / name)
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


def test_the_studies_are_what_is_told_of_them():
    assert {phase: tuple(makers) for phase, makers in studies._MAKERS.items()} == choices.STUDIES
    for phase, names in choices.STUDIES.items():
        for name in names:
            found = find_study(phase, name)
            assert (found.name, found.phase) == (name, phase) and len(found.arms) > 1
            same = [replace(arm.recipe, epochs=1) for arm in found.arms.values()]
            # What a study does not ask about is the same in all arms.
            if name != "ablation":
                assert len(set(same)) == 1
    with pytest.raises(ConfigError, match="Did you mean 'ablation'"):
        find_study("phase1_cifar", "ablations")
    with pytest.raises(ConfigError, match="phase3_captioning has no studies"):
        find_study("phase3_captioning", "ablation")


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
            assert np.isfinite(table["val_accuracy"]).all()
