"""Divisions into train, validation and test where images come in groups: patients."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.image_files import cause
from common.data.images import ImageData, stratified
from common.data.listing import some
from common.errors import ConfigError, DataError
from common.paths import display, expand

SPLITS = ("patients", "random", "published", "published+unlisted", "leave-one-out")
PARTS = ("train", "validation", "test")
_SHARE = 0.2  # of patients, or of images, for validation, and as many for test
# Janowczyk and Madabhushi, "Deep learning for digital pathology image analysis" (2016): the
# lists of the IDC use case, published beside their tutorial. They come with the course.
PUBLISHED = Path(__file__).parent / "histopathology" / "published"
PUBLISHED_LISTS = {
    "train": "cases_train.txt",
    "validation": "cases_val.txt",
    "test": "cases_test.txt",
}


@dataclass(frozen=True)
class Splits:
    """Three parts of a data set; a patient lies in one of them, if it is not `leaky`.

    Args:
        train, validation, test: The parts.
        leaky: Allows patients on both sides: only to show what that does to a score.
        absent: Patients that a list names and the data lacks.
        unlisted: Patients of the data that no list names.

    Raises:
        DataError: if a patient is in two parts of a split that is not leaky, or a part has no
            image of a class that the training images have.
    """

    train: ImageData
    validation: ImageData
    test: ImageData
    leaky: bool = False
    absent: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.leaky:
            check_disjoint({part: getattr(self, part).groups for part in PARTS})

    def summary(self) -> pd.DataFrame:
        """A row per part: patients, patches, and the share of the second class."""
        parts = [getattr(self, part) for part in PARTS]
        table = pd.DataFrame({"patients": [len(np.unique(part.groups)) for part in parts]}, PARTS)
        table["patches"] = [len(part) for part in parts]
        table[f"share {self.train.classes[1]}"] = [part.labels.mean() for part in parts]
        return table


def check_disjoint(groups: dict[str, np.ndarray]) -> None:
    """Makes sure that no group lies in two parts.

    Args:
        groups: The groups of the images of each part.

    Raises:
        DataError: naming the groups that do, and where.
    """
    found = {part: set(np.unique(values).tolist()) for part, values in groups.items()}
    parts = list(found)
    for i, first in enumerate(parts):
        for second in parts[i + 1 :]:
            if shared := sorted(found[first] & found[second]):
                raise DataError(
                    f"Patients on both sides of a split, in {first} and in {second}: "
                    f"{some(shared)}. A network that has seen a patient is not tested on that "
                    "patient: give each of them to one part."
                )


def split_by_patient(data: ImageData, seed: int = 0) -> Splits:
    """Whole patients to each part, drawn so that parts have patients rich and poor in positives.

    Patients are sorted by their share of the second class and cut into strata of about five; each
    stratum gives its share to each part: a fifth to validation, a fifth to test.

    Args:
        data: All images, with groups.
        seed: Draws the patients.

    Raises:
        DataError: if there are no groups, or too few for three parts.
    """
    table = patient_table(data)
    shares = table["positives"] / table["patches"]
    count = len(shares)
    if count < 3:
        raise DataError(
            f"{data.name} has {count} patients: too few for three parts of whole patients. Use "
            "leave-one-patient-out."
        )
    rng = np.random.default_rng(seed)
    # By share, ties in random order; then every k-th patient, beginning anywhere.
    order = shares.sample(frac=1, random_state=seed).sort_values(kind="stable").index.to_numpy()
    size = max(1, round(_SHARE * count))
    chosen = _spread(order, size, rng)
    rest = order[~np.isin(order, chosen)]
    held = _spread(rest, size, rng)
    return _by_patients(data, {"validation": held, "test": chosen})


def make_splits(
    data: ImageData, how: str, *, lists: str | Path | None = None, seed: int = 0
) -> Splits:
    """A division by name.

    Args:
        data: All images, with groups.
        how: "patients" (`split_by_patient`), "random" (`split_at_random`), "published"
            (`split_by_lists`), or "published+unlisted": patients on no list train, too.
        lists: The folder of lists of one's own; for the last two.
        seed: Draws the first two.

    Raises:
        ConfigError: for another name.
    """
    if how == "patients":
        return split_by_patient(data, seed=seed)
    if how == "random":
        return split_at_random(data, seed=seed)
    if how in ("published", "published+unlisted"):
        return split_by_lists(data, lists or PUBLISHED, unlisted_train=how != "published")
    raise ConfigError(f"split={how!r} makes no three parts. Choose one of {SPLITS[:4]}.")


def suitable_split(data: ImageData) -> str:
    """The fairest split that the patients allow.

    "patients" if ten or more have both classes; else "leave-one-out" if there are patches of both
    classes whoever is left out; else "random": it says nothing about other patients.

    Raises:
        DataError: if all patches are of one class.
    """
    table = patient_table(data)
    positive, negative = table["positives"] > 0, table["positives"] < table["patches"]
    if not (positive.any() and negative.any()):
        only = data.classes[int(positive.any())]
        raise DataError(
            f"{data.name}: all {len(data):,} patches are {only}, so there is nothing to tell "
            "apart. Add patches of the other class."
        )
    if (positive & negative).sum() >= 10:
        return "patients"
    return "leave-one-out" if min(positive.sum(), negative.sum()) > 1 else "random"


def _spread(ordered: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """One element of each of `count` equal runs, so that all of the range is represented."""
    edges = np.linspace(0, len(ordered), count + 1).round().astype(int)
    return ordered[[rng.integers(a, b) for a, b in zip(edges, edges[1:], strict=False)]]


def split_at_random(data: ImageData, seed: int = 0) -> Splits:
    """Images drawn one by one: the patients of the test images are in the training images too.

    Only to show what that does: Bussola et al., "AI slipping on tiles: data leakage in digital
    pathology" (2019).

    Args and errors as in `split_by_patient`. Of a class of one or two patches, some part has none.
    """
    if len(data) < 3:
        raise DataError(f"{data.name} has {len(data)} patches: too few for three parts.")
    rest, tested = stratified(data.labels, math.ceil(_SHARE * len(data)), seed)
    count = max(1, round(_SHARE * len(data)))
    kept, held = (rest[part] for part in stratified(data.labels[rest], count, seed))
    parts = {"train": kept, "validation": held, "test": tested}
    return Splits(
        **{part: _part(data, np.sort(indices), part) for part, indices in parts.items()}, leaky=True
    )


def split_by_lists(
    data: ImageData, folder: str | Path = PUBLISHED, *, unlisted_train: bool = False
) -> Splits:
    """The parts that lists of patients define, one file each, one patient a line.

    Args:
        data: All images, with groups.
        folder: Holds `cases_train.txt`, `cases_val.txt` and `cases_test.txt`. By default those
            of Janowczyk and Madabhushi (2016), which name 84, 29 and 49 patients of the IDC set.
        unlisted_train: Patients on no list train, too; else they are in no part.

    Returns:
        The splits, with the patients that are listed and absent, and the other way round.

    Raises:
        DataError: if a list is missing or empty, a patient is listed twice, or none of a list's
            patients are there.
    """
    folder = expand(folder)
    lists = {part: _read_list(folder / name) for part, name in PUBLISHED_LISTS.items()}
    where: dict[str, str] = {}
    for part, patients in lists.items():
        for patient in patients:
            if patient in where:
                raise DataError(
                    f"{folder / PUBLISHED_LISTS[part]}: patient {display(patient)} is in "
                    f"{PUBLISHED_LISTS[where[patient]]} too. A patient belongs to one part."
                )
            where[patient] = part
    present = set(_groups(data).tolist())
    for part, patients in lists.items():
        if not present.intersection(patients):
            raise DataError(
                f"{data.name} has none of the {len(patients)} patients in "
                f"{folder / PUBLISHED_LISTS[part]}. Are these lists of another data set?"
            )
    listed = {part: np.array(sorted(present.intersection(p))) for part, p in lists.items()}
    absent, unlisted = sorted(set(where) - present), sorted(present - set(where))
    if unlisted_train:
        listed["train"] = np.union1d(listed["train"], unlisted)
    return _by_patients(data, listed, absent=tuple(absent), unlisted=tuple(unlisted))


def _read_list(path: Path) -> list[str]:
    try:
        # Lines end where a file's do: not at every character that Unicode ends one with.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Could not read {display(path)}: {cause(error)}. It should hold one patient a line, "
            "as text in UTF-8."
        ) from error
    patients = {}  # in the order of the lines
    for number, line in enumerate(lines, 1):
        if (patient := line.strip()) in patients:
            raise DataError(f"{path}, line {number}: patient {display(patient)} is listed twice.")
        if patient:
            patients[patient] = None
    if not patients:
        raise DataError(f"{path} is empty. It should hold one patient a line.")
    return list(patients)


def leave_one_patient_out(data: ImageData) -> Iterator[tuple[str, ImageData, ImageData]]:
    """Each patient in turn as the test: `(patient, the others, the patient)`.

    Raises:
        DataError: if there are fewer than two patients.
    """
    patients = np.unique(_groups(data))
    if len(patients) < 2:
        raise DataError(f"{data.name} has one patient only, which cannot be left out.")
    for patient in patients:
        left_out = data.groups == patient
        others = _part(data, np.flatnonzero(~left_out), "train")
        yield str(patient), others, _part(data, np.flatnonzero(left_out), "test")


def patient_folds(
    data: ImageData, count: int = 5, seed: int = 0
) -> list[tuple[ImageData, ImageData]]:
    """Each patient left out once: `(the others, those left out)` for each of `count` folds.

    The folds have about as many patches, and positive ones, as each other.

    Args:
        data: All images, with groups.
        count: Of the folds.
        seed: Draws the patients.

    Raises:
        DataError: if there are fewer patients than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = _groups(data)
    if (patients := len(np.unique(groups))) < count:
        raise DataError(f"{data.name} has {patients} patients: too few for {count} folds of them.")
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    divided = folds.split(np.zeros(len(data)), data.labels, groups)
    return [(_part(data, kept, "train"), _part(data, held, "validation")) for kept, held in divided]


def patient_table(data: ImageData) -> pd.DataFrame:
    """A row per patient: `patches`, and `positives`, those of the second class."""
    positive = pd.Series(data.labels == 1).groupby(_groups(data))
    table = positive.agg(patches="size", positives="sum")
    return table.rename_axis("patient")


def _groups(data: ImageData) -> np.ndarray:
    if data.groups is None:
        raise DataError(f"{data.name} does not tell which patient an image is of.")
    return np.asarray(data.groups)


def _by_patients(data: ImageData, patients: dict[str, np.ndarray], **found) -> Splits:
    """Those named to each part; the rest trains if `patients` names no training patients."""
    groups = _groups(data)
    taken = {part: np.isin(groups, names) for part, names in patients.items()}
    if "train" not in taken:
        taken["train"] = ~np.logical_or.reduce(list(taken.values()))
    splits = Splits(
        **{part: _part(data, np.flatnonzero(mask), part) for part, mask in taken.items()}, **found
    )
    for part in PARTS:
        labels = getattr(splits, part).labels
        if len(np.unique(labels)) < len(data.classes):
            only = data.classes[labels[0]]
            raise DataError(
                f"{data.name}: the {part} part has {only} patches only, so nothing can be "
                f"{'learnt' if part == 'train' else 'measured'} on it. Use another seed, more "
                "patients, or leave-one-patient-out."
            )
    return splits


def _part(data: ImageData, indices: np.ndarray, part: str) -> ImageData:
    return replace(data.subset(indices), split=part)
