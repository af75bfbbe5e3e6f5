"""Rows of the table in which lesson 1.4 sets an accuracy beside others: what is known of each."""

import numpy as np
import pandas as pd

from common.evaluation.metrics import accuracy_interval
from common.training.store import member_records

_NOT_TOLD = "not told"


def accuracy_row(
    network: str,
    accuracy: float,
    n: int,
    trainings: str = _NOT_TOLD,
    time: str = _NOT_TOLD,
    source: str = _NOT_TOLD,
) -> dict:
    """A row of somebody's accuracy, with Wilson's interval as if judged on `n` images.

    Args:
        network, trainings, time, source: In words, as far as told.
        accuracy: 0..1.
        n: Test images.

    Returns:
        `network`, `value` (the accuracy), its interval `low` to `high`, `trainings`, `time` and
        `source`.

    Raises:
        ConfigError: for an accuracy outside 0..1, or no image.
    """
    low, high = accuracy_interval(round(accuracy * n), n)
    about = {"trainings": trainings, "time": time, "source": source}
    return {"network": network, "value": accuracy, "low": low, "high": high, **about}


def measured_row(network: str, right: np.ndarray, record: dict) -> dict:
    """A row of a network of ours, of one training or, of an ensemble, of several.

    Args:
        network: In words.
        right: Which test images are told rightly, bool (N,).
        record: Of its training: `seed`, `profile`, `seconds` and `hardware` are told.

    Returns:
        As `accuracy_row`.
    """
    members = member_records(record)
    averaged = " averaged" if len(members) > 1 else ""
    devices = dict.fromkeys(_device(member["hardware"]) for member in members)  # each once
    return accuracy_row(
        network,
        float(np.mean(right)),
        len(right),
        f"{len(members)}{averaged}, {seeds_of(record)}, profile {record['profile']}",
        f"{record['seconds'] / 60:.0f} min, {' and '.join(devices)}",
        f"measured above, n = {len(right):,}",
    )


def seeds_of(record: dict) -> str:
    """The seed of a training, or those of an ensemble's, in words."""
    seeds = [str(member["seed"]) for member in member_records(record)]
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _device(machine: dict) -> str:
    accelerators = ", ".join(machine["accelerators"])
    return accelerators or f"{machine['cores']} cores of {machine['processor']}"


def as_markdown(rows: pd.DataFrame) -> str:
    """A table of such rows in Markdown, links kept.

    Args:
        rows: From `accuracy_row` and `measured_row`.
    """
    head = ["network", "accuracy", "95 % interval", "trainings", "time", "source"]
    lines = [head, ["---"] * len(head)]
    for row in rows.itertuples():
        interval = f"{row.low:.1%} to {row.high:.1%}"
        lines.append(
            [row.network, f"{row.value:.2%}", interval, row.trainings, row.time, row.source]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
