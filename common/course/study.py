"""The command `study`: trains all arms of a comparison and keeps its table."""

from pathlib import Path

import pandas as pd

from common.data import load_patches, load_splits
from common.data.images import ImageData
from common.data.splits import make_splits
from common.errors import ConfigError
from common.evaluation.patches import judge_patients
from common.files import write_json
from common.paths import outputs_dir, repository_root
from common.progress import progress_bar
from common.training.backend import device_settings
from common.training.studies import find_study, results_file
from common.training.studies.base import Judge, Study


def train_study(phase: str, name: str, dataset: str, keep: bool) -> tuple[dict, Path]:
    """Trains what is missing of a study; its table is written after each training.

    Args:
        phase, name: See `find_study`.
        dataset: As for `load_splits` or `load_patches`.
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
    train, validation, judge = study_data(study, dataset)
    trainings = study.run(dataset, train, validation, device_settings(), judge)
    total = len(study.arms) * len(study.seeds)
    for results in progress_bar(trainings, f"study {name}", total=total, unit=" trainings"):
        write_json(path, results)
    return results, path


def study_data(study: Study, dataset: str) -> tuple[ImageData, ImageData, Judge | None]:
    """Training and validation images of a study, and what scores a network on them."""
    if study.phase == "phase2_histopathology":
        data = load_patches(dataset)
        if study.everyone:
            return data, data, judge_patients
        splits = make_splits(data, "patients", seed=0)
        return splits.train, splits.validation, judge_patients
    train, validation, _ = load_splits(dataset, 0)
    return train, validation, None


def table(results: dict) -> pd.DataFrame:
    """A row per arm: means over the seeds, and the spread of what is judged by."""
    rows = pd.DataFrame(results["rows"])
    arms = rows.groupby("arm", sort=False)
    judged = [name for name in ("f1", "average_precision", "roc_auc") if name in rows]
    by = judged[0] if judged else "val_accuracy"
    columns = ["epochs", "parameters", "seconds", "loss", "val_accuracy", *judged]
    shown = arms[columns].mean()
    shown.insert(0, "seeds", arms.size())
    return shown.assign(deviation=arms[by].std()).reset_index()
