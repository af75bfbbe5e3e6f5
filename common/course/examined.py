"""The network that lesson 1.4 examines, and the images that it is examined with."""

from dataclasses import dataclass

import keras

from common.course.claims import seeds_of
from common.data import ImageData, is_own, load_images, load_splits
from common.errors import DataError
from common.models.ensemble import members_of
from common.models.resnet import preset
from common.training import experiment
from common.training.backend import device_settings
from common.training.classification import Classification, own_label
from common.training.recipes import NETWORKS, TEST_IMAGES, TRAIN_IMAGES, recipe
from common.training.released import load_model, released_record
from common.training.runs import Run

PHASE = "phase1_cifar"


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
        alike = f", the mean of {len(members)} networks" if len(members) > 1 else ""
        lines = [
            f"Network: {self.origin}{alike}, {self.network.count_params():,} parameters",
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
    label = f"{dataset}-{train.fingerprint()[:6]}"
    label = own_label(dataset, train) if is_own(dataset) else label
    about = {"phase": PHASE, "dataset": dataset, "profile": "smoke", "seed": seed}
    about["data"] = {"n_test": len(test)}
    run = Run.labelled(
        f"evaluation-{label}-{settings.backend}-seed{seed}",
        experiment.run_config(learns, plan, settings, **about),
    )
    experiment.train(learns, plan, settings, seed=seed, run=run)
    return run.name
