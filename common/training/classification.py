"""A ResNet that learns the classes of images."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import pandas as pd

from common.data.images import ImageData
from common.models.resnet import ResNetConfig, adapt, resnet, spread
from common.training.backend import DeviceSettings
from common.training.experiment import Trained, own_label, run_config, run_label, train
from common.training.fit import fit
from common.training.loop import FitResult
from common.training.recipes import Recipe
from common.training.runs import Run


@dataclass(frozen=True, eq=False)
class Classification:
    """A ResNet learns the classes of images: what `common.training.experiment.train` trains.

    The weights, the order of the images and all augmentation follow from the seed.

    Attributes:
        config: The architecture.
        train, validation: Images; without validation nothing is scored on the way.
    """

    config: ResNetConfig
    train: ImageData
    validation: ImageData | None = None

    def describe(self, recipe: Recipe) -> dict:
        """What makes a run of it what it is, and the patients that train the network."""
        groups = self.train.groups
        patients = {} if groups is None else {"trained_on": np.unique(groups).tolist()}
        return {
            **patients,
            "network": trained_config(self.config, recipe).to_dict(),
            "classes": self.train.classes,
            "data": {
                "name": self.train.name,
                "fingerprint": self.train.fingerprint(),
                "n_train": len(self.train),
                "n_val": 0 if self.validation is None else len(self.validation),
            },
        }

    def build(self, recipe: Recipe, seed: int = 0) -> keras.Model:
        """The network, untrained: weights from `seed`, with the recipe's augmentation."""
        keras.utils.set_random_seed(seed)
        config = self.config
        network = resnet(
            trained_config(config, recipe),
            len(self.train.classes),
            augmentation=recipe.augmentation_layers(seed, config.mean, config.std),
        )
        images = self.train.images
        # Grouped images stand group by group: the first ones would be those of a few patients.
        adapt(network, images if self.train.groups is None else spread(images))
        return network

    def fit(self, network, recipe, settings, **options) -> FitResult:
        """See `common.training.fit.fit`."""
        return fit(network, self.train, self.validation, recipe, settings, **options)

    def outcome(self, history: pd.DataFrame) -> dict:
        """What a record tells of a training before anything is judged."""
        if self.validation is None:
            return {"metrics": {}}
        return {"metrics": {"val_accuracy": float(history["val_accuracy"].iloc[-1])}}


def trained_config(config: ResNetConfig, recipe: Recipe) -> ResNetConfig:
    """The network that shrinks images by itself to the size that the recipe ends with."""
    return replace(config, image_size=recipe.phases()[-1][2])


def train_named(
    learns: Classification,
    recipe: Recipe,
    settings: DeviceSettings,
    *parts: str,
    run_name: str | None,
    about: dict,
    changed: dict | None = None,
) -> Trained:
    """Trains in a run whose name is made of what it is of, as "cifar10-laptop-fast-seed0".

    Args:
        learns, recipe, settings: As for `train`.
        *parts: What the name holds beside data set, profile and seed: the network, a split...
        run_name: A name chosen by hand; `None` for the one that is made.
        about: `phase`, `dataset`, `profile`, `seed` and what else `run_config` takes.
        changed: What was given by hand in place of the profile's, for the name; `None` for what
            was not.
    """
    dataset, profile, seed = about["dataset"], about["profile"], about["seed"]
    label = run_label(
        own_label(dataset, learns.train), profile, *parts, seed=seed, **(changed or {})
    )
    run = Run.open(run_name, label, run_config(learns, recipe, settings, **about))
    return train(learns, recipe, settings, seed=seed, run=run)
