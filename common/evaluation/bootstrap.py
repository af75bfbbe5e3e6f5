"""Intervals of scores of any kind from a bootstrap over groups: over patients, or over images.

1. Draw as many groups as there are, with replacement; what belongs to a group comes as often as it
   was drawn (`resample`).
2. Compute every score on them; repeat. A score's `values` are an array (1 + samples,): first on all
   there is, then on each resample.
3. The interval of 95 % cuts 2.5 % of the resamples off at either end (`percentiles`).

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Field and Welsh,
"Bootstrapping clustered data" (2007).
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd

from common.errors import ConfigError

Method = TypeVar("Method")

# Of the interval. As 0.95 gives them: 0.025 itself is another number in its last digit.
_ENDS = ((1 - 0.95) / 2, (1 + 0.95) / 2)


def resample(groups: int, samples: int, seed: int) -> np.ndarray:
    """How often each resample holds each group, (1 + samples, groups); first: each once.

    One group cannot be resampled: there is the first row only.

    Args:
        groups: Their number.
        samples: Resamples.
        seed: Of the resamples; the same groups are drawn for every method that is compared.

    Raises:
        ConfigError: for no sample.
    """
    if samples < 1:
        raise ConfigError(f"Wanted samples >= 1. Received: samples={samples}")
    if groups < 2:
        return np.ones((1, groups))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=samples)
    return np.concatenate([np.ones((1, groups)), drawn])


def percentiles(resamples: np.ndarray) -> np.ndarray:
    """Both ends of the interval, (2, ...), of resamples (samples, ...)."""
    return np.quantile(resamples, _ENDS, axis=0)


def interval(values: np.ndarray) -> dict[str, float]:
    """The interval of a score's `values` (1 + samples,).

    Returns:
        `value` on all there is; `low` and `high` (NaN without a resample); and `undefined`, the
        share of resamples in which the score cannot be computed (is not finite), on which the
        interval is silent.
    """
    resamples = values[1:]
    defined = resamples[np.isfinite(resamples)]
    low, high = percentiles(defined) if len(defined) else (np.nan, np.nan)
    undefined = 1 - len(defined) / len(resamples) if len(resamples) else 1.0
    return {"value": values[0], "low": low, "high": high, "undefined": undefined}


def intervals(scores: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The `interval` of each metric's values: a row per `metric`."""
    rows = {metric: interval(values) for metric, values in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def compare(
    methods: Mapping[str, Method],
    reference: str,
    score: Callable[[Method], Mapping[str, np.ndarray]],
) -> pd.DataFrame:
    """Intervals of several methods, and of their differences to one of them.

    What is hard for one method is hard for all, so their scores move together: their intervals may
    overlap widely where their difference is sure. Judge by the interval of the difference: does it
    contain 0?

    Args:
        methods: What `score` takes, by the name of the method.
        reference: The name that all are compared with.
        score: Gives the values of each metric, on the same resamples for all methods.

    Returns:
        A row per method and metric: `method`, `metric`, those of `interval`, `difference` (to the
        reference), `difference_low`, `difference_high`.

    Raises:
        ConfigError: if there is no such reference.
    """
    if reference not in methods:
        raise ConfigError(f"reference={reference!r} is none of: {', '.join(methods)}")
    results = {name: score(method) for name, method in methods.items()}
    rows = []
    for name, scores in results.items():
        for metric, values in scores.items():
            difference = interval(values - results[reference][metric])
            rows.append(
                {
                    "method": name,
                    "metric": metric,
                    **interval(values),
                    "difference": difference["value"],
                    "difference_low": difference["low"],
                    "difference_high": difference["high"],
                }
            )
    return pd.DataFrame(rows)
