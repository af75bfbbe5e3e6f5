"""One training of a ResNet, from configuration to run folder."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import keras
import numpy as np
import pandas as pd

from common.data import dataset_name, is_own
from common.data.images import ImageData
from common.models.resnet import ResNetConfig, adapt, resnet, spread
from common.training.backend import DeviceSettings, device_scope
from common.training.fit import fit
from common.training.recipes import Recipe
from common.training.runs import Run, slug


@dataclass(frozen=True)
class Trained:
    """A trained network: with `history` (a row per epoch), `seconds`, and its run, if kept."""

    network: keras.Model
    history: pd.DataFrame
    seconds: float
    run: Run | None


def train_resnet(
    config: ResNetConfig,
    recipe: Recipe,
    train: ImageData,
    validation: ImageData | None,
    settings: DeviceSettings,
    *,
    seed: int = 0,
    run: Run | None = None,
    progress: bool = True,
) -> Trained:
    """Builds and trains a ResNet; with a run, goes on where an earlier call was killed.

    A run that has its model already is not trained again. The weights, the order of the images
    and all augmentation follow from `seed`. A run has a record as soon as it is trained: whatever
    fails later, the training is not lost.

    Args:
        config: The architecture.
        recipe: The hyper-parameters.
        train, validation: Images; without validation nothing is scored on the way.
        settings: From `device_settings`.
        seed: Of everything random.
        run: Where the training is kept; `None` keeps nothing.
        progress: Show a progress bar.
    """
    if run is not None and train.groups is not None:
        run.about["trained_on"] = np.unique(train.groups).tolist()
    with run.hold() if run else nullcontext():
        if run is not None and (run.folder / "model.keras").exists():
            trained = Trained(run.load_model(), run.history, run.seconds, run)
        else:
            with device_scope(settings):
                name = run.name.replace("/", "-").replace("=", "-") if run else "resnet"
                network = build(config, recipe, train, seed, name)
                result = fit(
                    network,
                    train,
                    validation,
                    recipe,
                    settings,
                    seed=seed,
                    folder=run.folder if run else None,
                    progress=progress,
                )
            trained = Trained(network, result.history, result.seconds, run)
            if run is not None:
                run.save_model(network)
        if run is not None and not run.finished:
            last = trained.history.iloc[-1]
            run.save_record(
                metrics={"val_accuracy": float(last["val_accuracy"])} if validation else {},
                parameters=trained.network.count_params(),
                seconds=trained.seconds,
                epochs=recipe.epochs,
            )
    return trained


def build(
    config: ResNetConfig, recipe: Recipe, train: ImageData, seed: int = 0, name: str = "resnet"
) -> keras.Model:
    """The network that a recipe trains: weights from `seed`, with the recipe's augmentation."""
    keras.utils.set_random_seed(seed)
    network = resnet(
        trained_config(config, recipe),
        len(train.classes),
        augmentation=recipe.augmentation_layers(seed, config.mean, config.std),
        name=name,
    )
    # Grouped images stand group by group: the first ones would be those of a few patients.
    adapt(network, train.images if train.groups is None else spread(train.images))
    return network


def trained_config(config: ResNetConfig, recipe: Recipe) -> ResNetConfig:
    """The network that shrinks images by itself to the size that the recipe ends with."""
    return replace(config, image_size=recipe.phases()[-1][2])


def run_config(
    config: ResNetConfig,
    recipe: Recipe,
    settings: DeviceSettings,
    *,
    phase: str,
    dataset: str,
    profile: str,
    seed: int,
    **more,
) -> dict:
    """What makes a run what it is, as `Run` keeps it and records show it.

    Args:
        dataset: As a lesson takes it; of a folder the name counts, wherever it lies. What is in it
            belongs into `more`, as a fingerprint.
    """
    return {
        "phase": phase,
        "dataset": dataset_name(dataset),
        "profile": profile,
        "seed": seed,
        "network": trained_config(config, recipe).to_dict(),
        "recipe": recipe.to_dict(),
        "backend": settings.backend,
        "device": settings.to_dict(),
        "source": str(dataset),
        **more,
    }


def own_label(dataset: str, data: ImageData) -> str:
    """How the name of a run begins: the data set's name, as "cifar10".

    One's own folder is called as it is, with a fingerprint: "own-cats_and_dogs-1a2b3c4d".
    """
    if not is_own(dataset):
        return str(dataset)
    return f"own-{slug(dataset_name(dataset))[:40]}-{data.fingerprint()[:8]}"


def ablations(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, and the recipe less one ingredient each."""
    changes = {
        "whole recipe": {},
        "no label smoothing": {"label_smoothing": 0.0},
        "random flips": {"flip": "random"},
        "no flips": {"flip": "none"},
        "no shifts": {"shift": 0},
        "SGD instead of Muon": {"optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.9},
        "one image size": {"sizes": ()},
    }
    return {name: replace(recipe, **values) for name, values in changes.items()}
