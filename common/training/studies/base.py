"""What a comparison of many trainings is, how it is made and kept.

A study has arms (a network and a recipe each) and seeds. All of it takes hours and is done by one
command, `python -m common.course study PHASE NAME`; what came out is kept beside the lessons, in
`results/NAME.json`, with the hardware. Everything is judged on validation images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common.data.images import ImageData
from common.errors import DataError, unknown
from common.files import read_json
from common.models.resnet import ResNetConfig, with_pixel_statistics
from common.models.summary import count_macs
from common.paths import beside_lessons
from common.training import experiment
from common.training.backend import DeviceSettings, hardware
from common.training.classification import Classification
from common.training.experiment import Trained, run_config, run_label
from common.training.recipes import Recipe
from common.training.runs import Run, versions

# A network and its validation images to scores, as records keep them.
Judge = Callable[[keras.Model, ImageData], dict]
# Training images, validation images and a seed to those of an arm.
Parts = Callable[[ImageData, ImageData, int], tuple[ImageData, ImageData]]


@dataclass(frozen=True)
class Arm:
    """One of the things compared: a network, how it is trained, and on what.

    Attributes:
        network, recipe: See `common.training.classification.Classification`.
        parts: What is done to the study's images first; `None` for nothing.
    """

    network: ResNetConfig
    recipe: Recipe
    parts: Parts | None = None


@dataclass(frozen=True)
class Study:
    """Arms, each trained with each seed on the same images.

    Attributes:
        name: Of its file in `results/`.
        phase: The phase's folder.
        question: What it asks.
        arms: By name.
        images: Training images used; `None` for all.
        seeds: Of weights, order and augmentation.
        own_statistics: Pixels are scaled by mean and deviation of the training images.
        everyone: The patients of the test take part: `parts` keeps from each network those that it
            is judged by, and nothing is chosen.
    """

    name: str
    phase: str
    question: str
    arms: dict[str, Arm]
    images: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    own_statistics: bool = False
    everyone: bool = False

    @property
    def command(self) -> str:
        """What makes its table."""
        return f"python -m common.course study {self.phase.partition('_')[0]} {self.name}"

    def shortened(self, images: int, epochs: int, batch_size: int) -> "Study":
        """The same with less of everything: to see each arm work."""

        def short(arm: Arm) -> Arm:
            return replace(arm, recipe=replace(arm.recipe, epochs=epochs, batch_size=batch_size))

        arms = {name: short(arm) for name, arm in self.arms.items()}
        return replace(self, arms=arms, images=images)

    def train(
        self,
        arm: str,
        train: ImageData,
        validation: ImageData,
        settings: DeviceSettings,
        *,
        seed: int = 0,
        dataset: str | None = None,
        progress: bool = True,
    ) -> Trained:
        """Trains one arm; with a data set's name the run is kept, and found again.

        Args:
            arm: One of `arms`.
            train, validation: All there are: as many are taken as the study says.
            settings: From `device_settings`.
            seed: Of everything random.
            dataset: What `train` and `validation` are of.
            progress: Show a progress bar.

        Raises:
            ConfigError: if there is no such arm.
        """
        learns, plan = self.learns(arm, train, validation, seed), self.arms[arm].recipe
        run = None
        if dataset is not None:
            about = {"phase": self.phase, "dataset": dataset, "profile": "study", "seed": seed}
            label = run_label(f"study-{self.name}/{arm}", seed=seed)
            run = Run.labelled(label, run_config(learns, plan, settings, **about))
        return experiment.train(learns, plan, settings, seed=seed, run=run, progress=progress)

    def learns(
        self, arm: str, train: ImageData, validation: ImageData, seed: int = 0
    ) -> Classification:
        """What an arm's network learns, and on what it is judged; arguments as for `train`."""
        if arm not in self.arms:
            raise unknown(f"The study {self.name} has no arm {arm!r}.", arm, self.arms)
        network, parts = self.arms[arm].network, self.arms[arm].parts
        train = train.at_most(self.images, seed=0)
        if parts is not None:
            train, validation = parts(train, validation, seed)
        if self.own_statistics:
            network = with_pixel_statistics(network, train.images)
        return Classification(network, train, validation)

    def run(
        self,
        dataset: str,
        train: ImageData,
        validation: ImageData,
        settings: DeviceSettings,
        judge: Judge | None = None,
    ) -> Iterator[dict]:
        """Trains all arms, seed by seed; gives what is to be kept after each of them.

        Args:
            dataset, train, validation, settings: As for `train`.
            judge: Scores a network on its validation images, beyond loss and accuracy.
        """
        used = train.at_most(self.images, seed=0)
        rows: list[dict] = []
        results = {
            "study": self.name,
            "question": self.question,
            "command": self.command,
            "dataset": dataset,
            "data": {
                "name": used.name,
                "fingerprint": used.fingerprint(),
                "n_train": len(used),
                "n_val": len(validation),
                **{
                    f"patients_{part}": len(np.unique(data.groups))
                    for part, data in (("train", used), ("val", validation))
                    if data.groups is not None
                },
            },
            "hardware": hardware(),
            "versions": versions(),
            "rows": rows,
        }
        for seed in self.seeds:
            for arm in self.arms:
                trained = self.train(arm, used, validation, settings, seed=seed, dataset=dataset)
                if judge is not None and "judged" not in trained.run.record:
                    held = self.learns(arm, used, validation, seed).validation
                    _keep(trained, judge(trained.network, held))
                rows.append(_row(arm, trained, used.images.shape[1]))
                yield results


def _keep(trained: Trained, scores: dict) -> None:
    """Scores in the record of a training's run: they are not computed again."""
    record = trained.run.record
    kept = {key: record[key] for key in ("metrics", "parameters", "seconds", "epochs")}
    trained.run.save_record(**kept, judged=scores)


def _row(arm: str, trained: Trained, side: int) -> dict:
    """What is kept of a training, on images of so many pixels a side."""
    record, history = trained.run.record, trained.history
    return {
        "arm": arm,
        **{key: record[key] for key in ("seed", "epochs", "parameters")},
        "macs": count_macs(trained.network, side),
        "seconds": round(record["seconds"], 1),
        **{name: float(history[name].iloc[-1]) for name in CURVES},
        **record.get("judged", {}),
        "history": {name: [round(float(x), 5) for x in history[name]] for name in CURVES},
        "computed_in": record["device"]["precision"],
        "processor": record["hardware"]["processor"],
    }


CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")


def results_file(phase: str, name: str) -> Path | None:
    """Where the results of a study are kept; `None` where the course came without them."""
    folder = beside_lessons(phase, "results")
    return folder and folder / f"{name}.json"


def read_results(phase: str, name: str) -> tuple[pd.DataFrame, dict]:
    """The kept results of a study.

    Returns:
        A row per training (`arm`, `seed`, `epochs`, `parameters`, `macs`, `seconds`, last values
        of the curves, and `history`), and the rest of the file: `question`, `command`, `dataset`,
        `data`, `hardware`.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = results_file(phase, name)
    made = f"Make it, in hours: python -m common.course study {phase.partition('_')[0]} {name}"
    if path is None or not path.is_file():
        raise DataError(f"There are no results of the study {name} in {path}. {made}")
    results = read_json(path, dict)
    rows = results.get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"arm", "seed", "history"} <= row.keys() for row in rows
    ):
        raise DataError(f"{path} is damaged. Restore it: git checkout -- {path}")
    return pd.DataFrame(rows), {key: value for key, value in results.items() if key != "rows"}
