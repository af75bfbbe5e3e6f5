"""Differences between trainings that were repeated with the same seeds."""

import numpy as np
import pandas as pd
from scipy.stats import t

from common.errors import DataError


def paired_differences(
    table: pd.DataFrame,
    reference: str,
    metric: str = "val_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How far each arm lies from a reference, seed by seed, with Student's interval of the mean.

    Trainings of one seed share images, order and, as far as their networks agree, first weights:
    what this seed does to both drops out of their difference.

    1. `d_s = metric(arm, s) - metric(reference, s)` for each of the `n` seeds that both have
    2. interval: `mean(d) -/+ t_(n - 1) sd(d) / sqrt(n)`; none of one seed

    It tells what other seeds would give on the same images, not what other images would.

    Args:
        table: A row per training: `arm`, `seed` and the metric; rows without a number are left out.
        reference: The arm that all are compared with.
        metric: What is compared.
        confidence: Of the interval.

    Returns:
        A row per arm in the table's order, the reference first: `arm`, `mean` of the metric,
        `difference`, `low`, `high`, the number of seeds `n`, and `by_seed`, the differences.

    Raises:
        DataError: if the reference has no training, or an arm shares no seed with it.
    """
    table = table[np.isfinite(table[metric].astype(float))]
    if reference not in set(table["arm"]):
        raise DataError(f"The table has no arm {reference!r} with a {metric}.")
    by_seed = table.pivot_table(metric, "seed", "arm", sort=False)
    rows = []
    for arm in [reference, *(name for name in by_seed if name != reference)]:
        differences = (by_seed[arm] - by_seed[reference]).dropna().to_numpy()
        n = len(differences)
        if n == 0:
            raise DataError(f"{arm!r} and {reference!r} share no seed: nothing can be compared.")
        half = np.nan
        if n > 1:
            half = t.ppf((1 + confidence) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n)
        rows.append(
            {
                "arm": arm,
                "mean": by_seed[arm].mean(),
                "difference": differences.mean(),
                "low": differences.mean() - half,
                "high": differences.mean() + half,
                "n": n,
                "by_seed": differences.tolist(),
            }
        )
    return pd.DataFrame(rows)


def pooled_half_width(
    table: pd.DataFrame, metric: str = "val_accuracy", confidence: float = 0.95
) -> float:
    """Half the width of the interval of a difference of two arms, from the scatter of all arms.

    Three seeds tell little about how much one arm scatters. If all arms scatter alike, they can be
    asked together:

    1. residual: what is left of a score after the mean of its arm and the mean of its seed
    2. `s^2`: sum of their squares over `(arms - 1)(n - 1)` degrees of freedom
    3. half width: `t_((arms - 1)(n - 1)) sqrt(2 s^2 / n)`

    Args:
        table, metric, confidence: As for `paired_differences`; seeds that not every arm has are
            left out.

    Returns:
        NaN where there is one arm or one seed only.
    """
    by_seed = table.pivot_table(metric, "arm", "seed").dropna(axis=1)
    arms, n = by_seed.shape
    freedom = (arms - 1) * (n - 1)
    if freedom < 1:
        return np.nan
    values = by_seed.to_numpy()
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    variance = np.square(left).sum() / freedom
    return float(t.ppf((1 + confidence) / 2, freedom) * np.sqrt(2 * variance / n))
