import numpy as np
import pandas as pd
import pytest

from common.course.claims import accuracy_row, as_markdown, measured_row
from common.errors import ConfigError
from common.evaluation.metrics import accuracy_interval


def test_what_is_not_told_is_said():
    row = accuracy_row("the claim", 0.9429, 10_000)
    assert (row["low"], row["high"]) == accuracy_interval(9429, 10_000)
    assert row["trainings"] == row["time"] == row["source"] == "not told"
    with pytest.raises(ConfigError, match="Received: 9429 of 100"):
        accuracy_row("per cent", 94.29, 100)


def test_a_row_of_ours_tells_training_and_machine():
    hardware = {"processor": "AMD EPYC", "cores": 2, "accelerators": []}
    record = {"seed": 3, "profile": "laptop", "seconds": 600.0, "hardware": hardware}
    row = measured_row("ours", np.array([True, True, True, False]), record)
    assert (row["value"], row["low"], row["high"]) == (0.75, *accuracy_interval(3, 4))
    assert row["trainings"] == "1, seed 3, profile laptop"
    assert row["time"] == "10 min, 2 cores of AMD EPYC" and row["source"].endswith("n = 4")
    hardware["accelerators"] = ["A100", "A100"]
    assert measured_row("ours", np.ones(4, bool), record)["time"] == "10 min, A100, A100"


def test_a_row_of_an_ensemble_tells_its_trainings():
    hardware = {"processor": "AMD EPYC", "cores": 2, "accelerators": []}
    members = [{"seed": 0, "hardware": hardware | {"processor": "Xeon"}}]
    members += [{"seed": seed, "hardware": hardware} for seed in (0, 1)]
    record = {"profile": "laptop", "seconds": 600.0, "members": members, "hardware": {"cores": 2}}
    row = measured_row("ours", np.ones(4, bool), record)
    assert row["trainings"] == "3 averaged, seeds 0, 0, 1, profile laptop"
    assert row["time"] == "10 min, 2 cores of Xeon and 2 cores of AMD EPYC"


def test_the_table_keeps_links():
    row = accuracy_row("ResNet-20", 0.9125, 10_000, source="[He](https://arxiv.org/abs/1)")
    lines = as_markdown(pd.DataFrame([row, row])).split("\n")
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| ResNet-20 | 91.25% | 90.7% to 91.8% | not told |")
    assert lines[2].endswith(" [He](https://arxiv.org/abs/1) |")
