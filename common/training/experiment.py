"""One training, from its objective to its run: found again, else built, trained, kept."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import pandas as pd

from common.data import dataset_name, is_own
from common.training.backend import DeviceSettings, device_scope
from common.training.loop import FitResult
from common.training.recipes.base import BaseRecipe
from common.training.runs import Run, slug
from common.training.store import read_network


class Objective(Protocol):
    """What a network learns, and from what: `Classification`, `TeacherForcing`, `SelfCritical`."""

    def describe(self, recipe: BaseRecipe) -> dict:
        """What makes a run of it what it is."""

    def build(self, recipe: BaseRecipe, seed: int) -> keras.Model:
        """The network as the training begins."""

    def fit(self, network, recipe, settings, *, seed, folder, progress) -> FitResult:
        """Trains the network in place; with a folder it goes on where a killed call stopped."""

    def outcome(self, history: pd.DataFrame) -> dict:
        """What a record tells of a training before anything is judged: `metrics`, and more."""


@dataclass(frozen=True)
class Trained:
    """A trained network with its `history` (a row per epoch), `seconds`, and its run, if kept.

    Of a run the network is in float32, whatever it was trained in: it answers the same now, when
    the run is found again, and by `common.training.released.load_model`.
    """

    network: keras.Model
    history: pd.DataFrame
    seconds: float
    run: Run | None


def train(
    objective: Objective,
    recipe: BaseRecipe,
    settings: DeviceSettings,
    *,
    seed: int = 0,
    run: Run | None = None,
    progress: bool = True,
) -> Trained:
    """Builds and trains a network; with a run, goes on where an earlier call was killed.

    A run that has its model already is not trained again. It has a record as soon as it is trained:
    whatever fails later, the training is not lost.

    Args:
        objective: What it learns, and from what.
        recipe: The hyper-parameters.
        settings: From `device_settings`.
        seed: Of everything random.
        run: Where the training is kept; `None` keeps nothing.
        progress: Show a progress bar.
    """
    with run.hold() if run else nullcontext():
        if run is None or not (run.folder / "model.keras").exists():
            with device_scope(settings):
                network = objective.build(recipe, seed)
                folder: Path | None = run.folder if run else None
                result = objective.fit(
                    network, recipe, settings, seed=seed, folder=folder, progress=progress
                )
            if run is None:
                return Trained(network, result.history, result.seconds, None)
            # An old record, of a model that is gone, would not fit this file's bytes.
            (run.folder / "record.json").unlink(missing_ok=True)
            run.save_model(network)
        network, history = read_network(run.folder), run.history
        if not run.finished:
            run.save_record(
                **objective.outcome(history),
                parameters=network.count_params(),
                seconds=run.seconds,
                epochs=len(history),
            )
        return Trained(network, history, run.seconds, run)


def run_config(
    objective: Objective,
    recipe: BaseRecipe,
    settings: DeviceSettings,
    *,
    phase: str,
    dataset: str,
    profile: str,
    seed: int = 0,
    **more,
) -> dict:
    """What makes a run what it is, as `Run` keeps it and records show it.

    Args:
        objective, recipe, settings, seed: As for `train`.
        phase: Its folder, as "phase1_cifar".
        dataset: As a lesson takes it; of a folder the name counts, wherever it lies.
        profile: The recipe's.
        **more: What else belongs to it; `data` goes beside what the objective tells of its own.
    """
    described = objective.describe(recipe)
    return {
        "phase": phase,
        "dataset": dataset_name(dataset),
        "profile": profile,
        "seed": seed,
        **described,
        "recipe": recipe.to_dict(),
        "backend": settings.backend,
        "device": settings.to_dict(),
        "source": str(dataset),
        **more,
        "data": described["data"] | more.get("data", {}),
    }


def own_label(dataset: str, data) -> str:
    """How the name of a run begins: the data set's name, as "cifar10".

    One's own folder is called as it is, with a fingerprint: "own-cats_and_dogs-1a2b3c4d".

    Args:
        dataset: As a lesson takes it.
        data: With a `fingerprint()`: `ImageData`, `CaptionTask`.
    """
    if not is_own(dataset):
        return str(dataset)
    return f"own-{slug(dataset_name(dataset))[:40]}-{data.fingerprint()[:8]}"


def run_label(*parts: str, seed: int, **changed) -> str:
    """The name of a run, made from what it is of.

    Args:
        *parts: Data set, profile, network...
        seed: Of everything random.
        **changed: What was given by hand; `None` for what was not.
    """
    given = [f"{key}{value}" for key, value in changed.items() if value is not None]
    return "-".join([*(part.replace(":", "-") for part in parts), f"seed{seed}", *given])
