"""The command `study`: trains all arms of a comparison and keeps its table."""

from pathlib import Path

import pandas as pd

from common.data import load_splits
from common.errors import ConfigError
from common.files import write_json
from common.paths import outputs_dir, repository_root
from common.progress import progress_bar
from common.training.backend import device_settings
from common.training.studies import find_study, results_file


def train_study(phase: str, name: str, dataset: str, keep: bool) -> tuple[dict, Path]:
    """Trains what is missing of a study; its table is written after each training.

    Args:
        phase, name: See `find_study`.
        dataset: As for `load_splits`.
        keep: Beside the lessons, else under `outputs/studies`.

    Returns:
        What is kept, and where.

    Raises:
        ConfigError: if it is to be kept beside the lessons, and there is no checkout.
    """
    study = find_study(phase, name)
    path = outputs_dir() / "studies" / phase / f"{name}.json"
    if keep:
        if repository_root() is None:
            raise ConfigError("--keep needs a checkout of the repository. Leave it out.")
        path = results_file(phase, name)
    train, validation, _ = load_splits(dataset, 0)
    trainings = study.run(dataset, train, validation, device_settings())
    total = len(study.arms) * len(study.seeds)
    for results in progress_bar(trainings, f"study {name}", total=total, unit=" trainings"):
        write_json(path, results)
    return results, path


def table(results: dict) -> pd.DataFrame:
    """A row per arm: means over the seeds, and the spread of the validation accuracy."""
    rows = pd.DataFrame(results["rows"])
    arms = rows.groupby("arm", sort=False)
    shown = arms[["epochs", "parameters", "seconds", "loss", "val_accuracy"]].mean()
    shown.insert(0, "seeds", arms.size())
    return shown.assign(deviation=arms["val_accuracy"].std()).reset_index()
