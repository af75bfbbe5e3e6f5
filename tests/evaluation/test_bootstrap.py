import numpy as np
import pytest

from common.errors import ConfigError
from common.evaluation.bootstrap import compare, interval, intervals, percentiles, resample


def means(values, seed=0, samples=2000):
    """Of each group a value: their mean on all groups, then on each resample."""
    weights = resample(len(values), samples, seed)
    return weights @ values / len(values)


def test_a_resample_holds_as_many_groups_as_there_are():
    weights = resample(5, 300, seed=0)
    assert weights.shape == (301, 5) and (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 5).all()
    # A group is in a resample in 1 - (4/5)^5 of all cases.
    assert (weights[1:] > 0).mean() == pytest.approx(1 - 0.8**5, abs=0.03)
    np.testing.assert_array_equal(resample(5, 300, seed=0), weights)
    assert (resample(5, 300, seed=1) != weights).any()
    assert resample(1, 300, seed=0).tolist() == [[1]]


def test_interval_of_a_mean_is_nearly_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = interval(means(values))
    assert found["value"] == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    ends = (values.mean() - half, values.mean() + half)
    assert (found["low"], found["high"]) == pytest.approx(ends, abs=0.1 * half)
    np.testing.assert_array_equal(percentiles(means(values)[1:]), list(found.values())[1:3])


def test_interval_is_of_the_resamples_that_have_the_score():
    found = interval(np.array([2.0, 1.0, np.nan, 3.0, np.nan]))
    assert found["undefined"] == 0.5
    assert (found["low"], found["high"]) == pytest.approx((1.05, 2.95))
    nothing = interval(np.array([2.0]))  # of one group
    assert nothing["value"] == 2 and nothing["undefined"] == 1
    assert np.isnan([nothing["low"], nothing["high"]]).all()


def test_methods_are_compared_on_the_same_resamples():
    values = np.random.default_rng(0).normal(3, 2, 50)
    table = compare({"a": values, "b": values + 1}, "a", lambda v: {"mean": means(v)})
    table = table.set_index("method")
    assert (table["metric"] == "mean").all()
    row = table.loc["b", ["difference", "difference_low", "difference_high"]].astype(float)
    np.testing.assert_allclose(row, 1)  # what both share cancels out
    alone = intervals({"mean": means(values)})
    assert alone.loc["mean"].to_dict() == table.loc["a", alone.columns].to_dict()


def test_bootstrap_refuses():
    with pytest.raises(ConfigError, match="samples=0"):
        resample(5, 0, seed=0)
    with pytest.raises(ConfigError, match="'c' is none of: a, b"):
        compare({"a": 1, "b": 2}, "c", lambda method: {})
