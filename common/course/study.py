"""The command `study`: trains all arms of a comparison and keeps its table."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from common.data import load_patches, load_splits
from common.data.images import ImageData
from common.data.splits import make_splits
from common.errors import ConfigError
from common.evaluation.captioners import dev_score, judge_on_dev
from common.evaluation.patches import judge_patients
from common.files import hold, write_json
from common.paths import outputs_dir, repository_root
from common.progress import progress_bar
from common.training.backend import device_settings
from common.training.recipes import captioner_settings
from common.training.studies import CaptionStudy, ImageStudy, Study, find_study, results_file
from common.training.studies.base import read_rows
from common.training.studies.images import Judge


def train_study(
    phase: str,
    name: str,
    dataset: str,
    keep: bool,
    *,
    arms: Iterable[str] = (),
    seeds: Iterable[int] = (),
    smoke: bool = False,
) -> tuple[dict, Path]:
    """Trains what is missing of a study; its table is written after each training.

    Args:
        phase, name: See `find_study`.
        dataset: As for `load_splits`, `load_patches` or `load_captions`.
        keep: Beside the lessons, else under `outputs/studies`.
        arms, seeds: Only these: the rows of others stay. By default all, in a new table.
        smoke: A little of everything, to see each arm work.

    Returns:
        What is kept, and where.

    Raises:
        ConfigError: for an unknown arm, or if it is to be kept beside the lessons, and is no whole
            study or there is no checkout.
    """
    whole, arms, seeds = find_study(phase, name), tuple(arms), tuple(seeds)
    study = whole.only(arms, seeds)
    path = outputs_dir() / "studies" / phase / f"{name}{'-smoke' if smoke else ''}.json"
    if smoke:
        study = study.in_smoke()
    if keep:
        if smoke:
            raise ConfigError("--smoke trains too little to be kept. Leave --keep out.")
        if repository_root() is None:
            raise ConfigError("--keep needs a checkout of the repository. Leave it out.")
        path = results_file(phase, name)
    with hold(path.with_name(f".{path.stem}.lock"), f"trains the study {name!r}"):
        before = read_rows(path) if (arms or seeds) and path.is_file() else None
        if before is not None:
            before["rows"] = [row for row in before["rows"] if row["arm"] in whole.arms]
        trainings = run_study(study, dataset, before)
        bar = progress_bar(trainings, f"study {name}", total=study.trainings, unit=" trainings")
        for results in bar:
            write_json(path, results)
    return results, path


def run_study(study: Study, dataset: str, before: dict | None = None) -> Iterator[dict]:
    """What is to be kept of a study after each training, see `Study.table`."""
    if isinstance(study, CaptionStudy):
        return study.run(dataset, captioner_settings(dataset), dev_score, judge_on_dev, before)
    train, validation, judge = study_data(study, dataset)
    return study.run(dataset, train, validation, device_settings(), judge, before)


def study_data(study: ImageStudy, dataset: str) -> tuple[ImageData, ImageData, Judge | None]:
    """Training and validation images of a study, and what scores a network on them."""
    if study.phase == "phase2_histopathology":
        data = load_patches(dataset)
        if study.everyone:
            return data, data, judge_patients
        splits = make_splits(data, "patients", seed=0)
        return splits.train, splits.validation, judge_patients
    train, validation, _ = load_splits(dataset, 0)
    return train, validation, None


# What is shown of a table, as far as it has it.
_COLUMNS = ("epochs", "parameters", "seconds", "loss")
_COSTS = ("backbone_parameters", "download_mb", "images_per_second", "features_mb")
_COVERAGE = ("coverage_words", "coverage_occurrences")
# The first one that there is decides.
_JUDGED = {
    "cider_d": ("val_loss", "true_captions", "bleu_1", "bleu_4", "cider_d", *_COVERAGE, *_COSTS),
    "f1": ("val_accuracy", "f1", "average_precision", "roc_auc"),
    "val_accuracy": ("val_accuracy",),
}


def table(results: dict) -> pd.DataFrame:
    """A row per arm: means over the seeds, and the spread of what is judged by.

    Where one seed chose which arms get the others, the means of these are without it.
    """
    rows = pd.DataFrame(results["rows"])
    if "chose" in rows:  # a mean with the seed that chose the arm would be too good
        several = rows.groupby("arm")["seed"].transform("size") > 1
        rows = rows[~(rows["chose"].eq(True) & several)]
    arms = rows.groupby("arm", sort=False)
    by = next(name for name in _JUDGED if name in rows)
    shown = arms[[name for name in (*_COLUMNS, *_JUDGED[by]) if name in rows]].mean()
    shown.insert(0, "seeds", arms.size())
    return shown.assign(deviation=arms[by].std()).reset_index()
