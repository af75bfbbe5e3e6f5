"""The networks that lessons 1.4 and 2.4 examine, and the images that they are examined with."""

from dataclasses import dataclass

import keras
import numpy as np

from common.course.claims import seeds_of
from common.data import ImageData, is_own, load_images, load_patches, load_splits
from common.data.splits import make_splits, patient_table, suitable_split
from common.errors import DataError
from common.evaluation.classification import predict_logits
from common.evaluation.patches import unseen_logits
from common.models.ensemble import members_of
from common.models.resnet import preset, with_pixel_statistics
from common.paths import data_dir
from common.training import experiment
from common.training.backend import device_settings
from common.training.classification import Classification, own_label
from common.training.recipes import (
    NETWORKS,
    PATCHES,
    PATIENTS,
    PHASE2_NETWORKS,
    TEST_IMAGES,
    TRAIN_IMAGES,
    recipe,
)
from common.training.released import load_model, released_record
from common.training.runs import Run
from common.training.store import trained_on

PHASE, PATCHES_PHASE = "phase1_cifar", "phase2_histopathology"


@dataclass(frozen=True)
class Examined:
    """A trained network, and images that it was not trained on.

    Attributes:
        network: Takes raw pixels, gives logits.
        record: Of its training.
        origin: Which network it is, in words.
        validation, test: The images.
        seen: How the network may have seen validation images before; "" if it has not.
    """

    network: keras.Model
    record: dict
    origin: str
    validation: ImageData
    test: ImageData
    seen: str

    def __str__(self) -> str:
        """Network, training and images, in a few lines."""
        data, members = self.record["data"], members_of(self.network)
        alike = f", the mean of {len(members)} networks, together" if len(members) > 1 else ","
        lines = [
            f"Network: {self.origin}{alike} {self.network.count_params():,} parameters",
            f"Trained: profile {self.record['profile']}, {seeds_of(self.record)}, on "
            f"{data['n_train']:,} images of {data['name']}",
            f"Here: {len(self.validation):,} images to validate and {len(self.test):,} to test, "
            f"of {self.test.name}",
        ]
        return "\n".join(lines + [self.seen] * bool(self.seen))


def examined_network(
    dataset: str, profile: str, seed: int = 0, run_name: str | None = None
) -> Examined:
    """A network that was trained before: a run, else the released weights, else a small one.

    Released weights are for images of their classes. For others a network is trained with the
    recipe of profile `smoke`, in a run that is found again the next time.

    Args:
        dataset, profile: Of the lesson.
        seed: Of the small network.
        run_name: A finished run; `None` for the released weights, or a small network.

    Raises:
        ConfigError: if there is no such run.
        DataError: if the run tells other classes than the images have.
    """
    n_test = TEST_IMAGES[profile]
    released, classes = released_record(PHASE), load_images(dataset, "test", limit=n_test).classes
    if run_name:
        origin = f"the run {run_name}"
    elif released and tuple(released["classes"]) == classes:
        origin = "the weights that come with the course"
    else:
        origin = "a small network of this lesson"
        run_name = _trained(dataset, n_test, seed)
    network, record = load_model(run_name, PHASE)
    if tuple(record["classes"]) != classes:
        raise DataError(
            f"The network tells {', '.join(record['classes'])}; the images of {dataset} are of "
            f"{', '.join(classes)}. Name another run, or none."
        )
    data = record["data"]
    train, validation, test = known_images(record, dataset, n_test)
    seen = ""
    if not data["n_val"]:
        seen = "It was trained on all images, those to validate too: a fit on them is optimistic."
    elif train.fingerprint() != data["fingerprint"]:
        seen = "It was trained on other images than these: it may have seen some of them."
    return Examined(network, record, origin, validation, test, seen)


def known_images(
    record: dict, dataset: str | None = None, n_test: int | None = None
) -> tuple[ImageData, ImageData, ImageData]:
    """Training, validation and test images, divided as for a network's training.

    Args:
        record: Of the network.
        dataset: Another one than the record's.
        n_test: See `common.data.load_splits`.
    """
    data = record["data"]
    n_known = data["n_train"] + data["n_val"]
    # Split off with the same seed as in its training, 0.
    part = data["n_val"] / n_known or 0.1
    return load_splits(dataset or record["dataset"], 0, n_known, n_test, validation=part)


def _trained(dataset: str, n_test: int | None, seed: int) -> str:
    """The name of the run of a small network, trained if it is not there."""
    train, validation, test = load_splits(dataset, 0, TRAIN_IMAGES["smoke"], n_test)
    settings, plan = device_settings(), recipe("smoke")
    learns = Classification(preset(NETWORKS["smoke"]), train, validation)
    label = _label(dataset, train)
    about = {"phase": PHASE, "dataset": dataset, "data": {"n_test": len(test)}}
    return _train_small(learns, plan, settings, label, seed, **about)


def _label(dataset: str, data: ImageData) -> str:
    return own_label(dataset, data) if is_own(dataset) else f"{dataset}-{data.fingerprint()[:6]}"


def _train_small(learns, plan, settings, label: str, seed: int, **about) -> str:
    """Trains a small network in a run that is found again; gives the run's name."""
    run = Run.labelled(
        f"evaluation-{label}-{settings.backend}-seed{seed}",
        experiment.run_config(learns, plan, settings, profile="smoke", seed=seed, **about),
    )
    experiment.train(learns, plan, settings, seed=seed, run=run)
    return run.name


@dataclass(frozen=True)
class ExaminedPatches:
    """A trained network of phase 2, and patients to examine it with.

    Attributes:
        network: Takes raw pixels, gives logits.
        record: Of its training.
        origin: Which network it is, in words.
        validation, test: Patches: some patients choose, the others judge.
        notes: What a reader has to know before any figure.
    """

    network: keras.Model
    record: dict
    origin: str
    validation: ImageData
    test: ImageData
    notes: tuple[str, ...] = ()

    def logits(self, patches: ImageData) -> np.ndarray:
        """Logits (N, 2), where that can be of networks that have not seen the patient."""
        if self.notes:
            return predict_logits(self.network, patches.images, tta=self.record.get("tta", False))
        return unseen_logits(self.network, self.record, patches)

    def __str__(self) -> str:
        """Network, training and patients, in a few lines."""
        members = members_of(self.network)
        alike = f", {len(members)} networks, together" if len(members) > 1 else ","
        lines = [
            f"Network: {self.origin}{alike} {self.network.count_params():,} parameters, profile "
            f"{self.record['profile']}, trained on {self.record['data']['name']}",
        ]
        for name, part in (("validate", self.validation), ("test", self.test)):
            lines.append(
                f"To {name}: {len(part):,} patches of {len(np.unique(part.groups))} patients, "
                f"{part.labels.mean():.1%} {part.classes[1]}"
            )
        return "\n".join([*lines, *self.notes])


def examined_patches(
    dataset: str, profile: str, seed: int = 0, run_name: str | None = None
) -> ExaminedPatches:
    """A network of phase 2 that was trained before: a run, else the released one, else a small one.

    Validation patients are those of the split by patient. Of an `Ensemble` of folds all others
    test it, each by the members that have not seen her; of a run those that were kept for the test.

    Args:
        dataset, profile: Of the lesson.
        seed: Of the small network, for built-in slides.
        run_name: A finished run; `None` for the released weights, or a small network.

    Raises:
        ConfigError: if there is no such run.
        DataError: if the run tells other classes, or there are too few patients to train one.
    """
    data = load_patches(dataset, patients=PATIENTS[profile], seed=0)
    how = suitable_split(data)
    splits = None if how == "leave-one-out" else make_splits(data, how, seed=0)
    origin = f"the run {run_name}" if run_name else "the weights that come with the course"
    if run_name is None and (dataset == "synthetic" or released_record(PATCHES_PHASE) is None):
        if splits is None:
            raise DataError(f"{data.name} has too few patients to train and test: name a run.")
        run_name = _trained_on_patches(dataset, data, splits.train, how, seed)
        origin = "a small network of this lesson"
    network, record = load_model(run_name, PATCHES_PHASE)
    if tuple(record["classes"]) != data.classes:
        raise DataError(f"The network tells {record['classes']}, the patches are {data.classes}.")
    seen = trained_on(record)
    notes = []
    if splits is None:
        # Too few patients for parts: every other one validates, the rest tests.
        table = patient_table(data)
        order = table.assign(share=table["positives"] / table["patches"]).sort_values("share").index
        validation, test = (
            data.subset(np.flatnonzero(np.isin(data.groups, order[first::2]))) for first in (0, 1)
        )
        notes.append("There are few patients: half of them validate, half test.")
    else:
        validation, test = splits.validation, splits.test
        if splits.leaky:
            notes.append(
                "There are too few patients to keep any apart: patches are dealt at random."
            )
        elif len(seen) > 1:
            test = data.subset(np.flatnonzero(~np.isin(data.groups, np.unique(validation.groups))))
    if set.intersection(*seen) & set(np.concatenate([validation.groups, test.groups]).astype(str)):
        left_out = record["metrics"].get("left_out_f1")
        known = "" if left_out is None else f" On patients left out its F1 was {left_out:.1%}."
        notes.append(
            "The network was trained on some of these patients: the figures below show how each "
            f"thing is measured, not how good the network is.{known}"
        )
    return ExaminedPatches(network, record, origin, validation, test, tuple(notes))


def tissue_beside(dataset: str, name: str) -> str | None:
    """The folder `COURSE_DATA/<name>`, where there is one beside the IDC set; else `None`."""
    folder = data_dir() / name
    return str(folder) if dataset == "histopathology" and folder.is_dir() else None


def _trained_on_patches(
    dataset: str, data: ImageData, train: ImageData, how: str, seed: int
) -> str:
    """The name of the run of a small network, trained if it is not there."""
    settings, plan = device_settings(), recipe("smoke", phase=PATCHES_PHASE)
    network = with_pixel_statistics(preset(PHASE2_NETWORKS["smoke"]), train.images)
    learns = Classification(network, train.at_most(PATCHES["smoke"], seed=0))
    label = _label(dataset, data)
    about = {"phase": PATCHES_PHASE, "dataset": dataset, "split": how, "tta": "symmetries"}
    about["data"] = {"name": data.name, "fingerprint": data.fingerprint()}
    return _train_small(learns, plan, settings, label, seed, **about)
