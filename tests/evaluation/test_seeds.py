import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from common.evaluation.seeds import paired_differences, pooled_half_width

TABLE = pd.DataFrame(
    {
        "arm": ["less"] * 3 + ["whole"] * 3 + ["once"],
        "seed": [0, 1, 2, 2, 1, 0, 1],
        "val_accuracy": [0.79, 0.83, 0.86, 0.90, 0.85, 0.80, 0.95],
    }
)


def test_differences_are_paired_by_seed():
    found = paired_differences(TABLE, "whole").set_index("arm")
    assert found.index.tolist() == ["whole", "less", "once"]
    assert found["by_seed"]["less"] == pytest.approx([-0.01, -0.02, -0.04])
    # By hand: sd 0.015275, t of two degrees of freedom 4.3027, over sqrt(3).
    half = 4.30265 * np.std([0.01, 0.02, 0.04], ddof=1) / np.sqrt(3)
    row = found.loc["less"]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (-0.07 / 3, -0.07 / 3 - half, -0.07 / 3 + half), abs=1e-5
    )
    assert row["mean"] == pytest.approx(0.82666, abs=1e-4)
    assert found.loc["whole", ["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_one_seed_has_no_interval():
    once = paired_differences(TABLE, "whole").set_index("arm").loc["once"]
    assert once["n"] == 1 and once["difference"] == pytest.approx(0.1) and np.isnan(once["low"])


def test_what_cannot_be_compared_is_told():
    with pytest.raises(DataError, match="no arm 'all'"):
        paired_differences(TABLE, "all")
    with pytest.raises(DataError, match="'less' and 'once' share no seed"):
        paired_differences(TABLE[TABLE["seed"].ne(1) | TABLE["arm"].eq("once")], "once")


def test_two_arms_pooled_are_their_paired_interval():
    two = TABLE[TABLE["arm"] != "once"]
    row = paired_differences(two, "whole").set_index("arm").loc["less"]
    assert pooled_half_width(two) == pytest.approx(row["high"] - row["difference"])


def test_pooled_over_arms_that_scatter_by_chance():
    rng = np.random.default_rng(0)
    arms, n = 400, 3
    table = pd.DataFrame({"arm": np.repeat(np.arange(arms), n), "seed": list(range(n)) * arms})
    # What an arm is worth and what a seed does to all arms does not matter.
    table["f1"] = 0.01 * rng.normal(size=len(table)) + 0.1 * table["arm"] + table["seed"]
    assert pooled_half_width(table, "f1") == pytest.approx(1.96 * 0.01 * np.sqrt(2 / 3), rel=0.05)


@pytest.mark.parametrize("part", ["arm == 'less'", "seed == 1"])
def test_nothing_is_pooled_of_one_arm_or_seed(part):
    assert np.isnan(pooled_half_width(TABLE.query(part)))
