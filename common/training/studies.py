"""Comparisons of many trainings, whose tables lessons show and whose single arms they train.

A study has arms (a network and a recipe each) and seeds. All of it takes hours and is done by one
command, `python -m common.course study PHASE NAME`; what came out is kept beside the lessons, in
`results/NAME.json`, with the hardware. Everything is judged on validation images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from common.choices import check_study
from common.data.images import ImageData
from common.errors import DataError, unknown
from common.files import read_json
from common.models.resnet import ResNetConfig, preset
from common.models.summary import count_macs
from common.paths import beside_lessons
from common.training import experiment
from common.training.backend import DeviceSettings, hardware
from common.training.classification import Classification
from common.training.experiment import Trained, run_config, run_label
from common.training.recipes import Recipe, ablations, recipe
from common.training.runs import Run, versions


@dataclass(frozen=True)
class Arm:
    """One of the things compared: a network and how it is trained."""

    network: ResNetConfig
    recipe: Recipe


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
    """

    name: str
    phase: str
    question: str
    arms: dict[str, Arm]
    images: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)

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
        if arm not in self.arms:
            raise unknown(f"The study {self.name} has no arm {arm!r}.", arm, self.arms)
        network, plan = self.arms[arm].network, self.arms[arm].recipe
        learns = Classification(network, train.at_most(self.images, seed=0), validation)
        run = None
        if dataset is not None:
            about = {"phase": self.phase, "dataset": dataset, "profile": "study", "seed": seed}
            label = run_label(f"study-{self.name}/{arm}", seed=seed)
            run = Run.labelled(label, run_config(learns, plan, settings, **about))
        return experiment.train(learns, plan, settings, seed=seed, run=run, progress=progress)

    def run(
        self, dataset: str, train: ImageData, validation: ImageData, settings: DeviceSettings
    ) -> Iterator[dict]:
        """Trains all arms, seed by seed; gives what is to be kept after each of them."""
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
            },
            "hardware": hardware(),
            "versions": versions(),
            "rows": rows,
        }
        for seed in self.seeds:
            for arm in self.arms:
                trained = self.train(arm, used, validation, settings, seed=seed, dataset=dataset)
                rows.append(_row(arm, trained, used.images.shape[1]))
                yield results


def _row(arm: str, trained: Trained, side: int) -> dict:
    """What is kept of a training, on images of so many pixels a side."""
    record, history = trained.run.record, trained.history
    return {
        "arm": arm,
        **{key: record[key] for key in ("seed", "epochs", "parameters")},
        "macs": count_macs(trained.network, side),
        "seconds": round(record["seconds"], 1),
        **{name: float(history[name].iloc[-1]) for name in CURVES},
        "history": {name: [round(float(x), 5) for x in history[name]] for name in CURVES},
        "precision": record["device"]["precision"],
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


# --- phase 1 ---


def _degradation() -> Study:
    plan = Recipe(
        epochs=5,
        batch_size=100,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        warmup=0.2,
        label_smoothing=0.0,
        flip="none",
        shift=0,
        sizes=((1.0, 16),),
    )
    arms = {}
    for n in (1, 3, 9):
        for kind, residual in (("plain", False), ("residual", True)):
            network = ResNetConfig(blocks=(n, n, n), residual=residual)
            arms[f"{kind} {network.depth}"] = Arm(network, plan)
    question = "Does the training loss of plain and of residual networks fall with depth?"
    return Study("degradation", "phase1_cifar", question, arms, images=10_000)


def _ablation() -> Study:
    plan = recipe("laptop", epochs=8)
    arms = {name: Arm(preset("fast_small"), plan) for name, plan in ablations(plan).items()}
    question = "What is each ingredient of the recipe worth?"
    return Study("ablation", "phase1_cifar", question, arms, images=10_000)


def _grid(name: str, question: str, epochs: Callable[[str], int]) -> Study:
    arms = {}
    for stages in (2, 3, 4):
        for blocks in (1, 2, 3):
            arm = f"{stages} stages, {blocks} block{'s' * (blocks > 1)}"
            network = preset("fast_small", stages=stages, blocks=blocks)
            arms[arm] = Arm(network, recipe("laptop", epochs=epochs(arm)))
    return Study(name, "phase1_cifar", question, arms, images=10_000)


_EPOCHS = 6


def _stages_blocks() -> Study:
    question = "Stages or blocks, at equal epochs?"
    return _grid("stages_blocks", question, lambda arm: _EPOCHS)


def _stages_blocks_time() -> Study:
    """Each as many epochs as fit into the time of the middle one of `stages_blocks`."""
    made, _ = read_results("phase1_cifar", "stages_blocks")
    of_one = (made["seconds"] / made["epochs"]).groupby(made["arm"]).min()  # the least disturbed
    budget = _EPOCHS * of_one.median()
    question = "Stages or blocks, at equal time?"
    return _grid("stages_blocks_time", question, lambda arm: max(1, round(budget / of_one[arm])))


_MAKERS: dict[str, dict[str, Callable[[], Study]]] = {
    "phase1_cifar": {
        "degradation": _degradation,
        "ablation": _ablation,
        "stages_blocks": _stages_blocks,
        "stages_blocks_time": _stages_blocks_time,
    },
}


def find_study(phase: str, name: str) -> Study:
    """A study by its name, one of `common.choices.STUDIES`.

    Raises:
        ConfigError: if the phase has none of that name.
    """
    check_study(phase, name)
    return _MAKERS[phase][name]()
