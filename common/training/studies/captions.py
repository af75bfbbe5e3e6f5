"""Studies of captioners."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import keras
import numpy as np

from common.data.word_vectors import WordVectors
from common.training import experiment
from common.training.backend import DeviceSettings, hardware
from common.training.callbacks import kept_epoch
from common.training.caption_task import (
    CaptionTask,
    caption_task,
    embedding_identity,
    embedding_vectors,
    image_backbone,
)
from common.training.experiment import Trained, own_label, run_config, run_label
from common.training.features import BATCH, Extractor
from common.training.recipes import CaptionRecipe, caption_recipe, decoder_arguments, kind_of
from common.training.runs import Run
from common.training.studies.base import Study
from common.training.teacher_forcing import TeacherForcing

# A captioner and what it was trained on to scores of its captions of dev images.
Judge = Callable[[keras.Model, CaptionTask], dict]
# To the score of `TeacherForcing`, which chooses the epoch.
Scorer = Callable[[CaptionTask], Callable]

BACKBONE = "efficientnetb0"  # of photos, where a study asks about something else
FIRST = 0  # the seed with which arms are chosen
CURVES = ("loss", "val_loss", "val_score")
# As lesson 5 writes them into the names of runs: what both train is one run.
_IN_NAMES = {
    "batch_size": "batch",
    "learning_rate": "lr",
    "label_smoothing": "smoothing",
    "attention_penalty": "penalty",
}


@dataclass(frozen=True)
class CaptionArm:
    """One of the things compared: a captioner, and how it is trained.

    Attributes:
        decoder: One of `common.models.captioning.DECODERS`.
        arguments: Of the decoder: those that differ from `decoder_arguments`.
        recipe: Of the recipe: the values that differ from the profile's.
        backbone: Of the images; `None` for `BACKBONE`, or for that of drawn scenes.
        embedding: The vectors that words begin with, see `embedding_vectors`.
        numbers: With the embedding "random": how many numbers a vector has that is mapped to the
            decoder's width; `None` for none that is.
        mode: What is learned of vectors, see `common.layers.TiedEmbedding`.
        shuffled: Each word gets the vector of another one.
        share: Of the training images.
        group: What the arm belongs to; its name stands for all arms of it.
        once: Trained with the seed `FIRST` only.
    """

    decoder: str = "multi_head"
    arguments: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    embedding: str = "random"
    numbers: int | None = None
    mode: str = "tuned"
    shuffled: bool = False
    share: float = 1.0
    group: str = ""
    once: bool = False


@dataclass(frozen=True)
class CaptionStudy(Study):
    """Arms of the kind `CaptionArm`, judged by their captions of dev images.

    Runs are named by what they are made of: two studies, or lesson 5, find each other's.

    Attributes:
        finalists: So many arms of each group get the other seeds: those that have the highest
            CIDEr-D with the seed `FIRST`. `None` for all.
        costs: Rows tell what the backbone costs, see `backbone_costs`.
        profile: Whose recipe is taken; in "smoke" a part of the images and one epoch.
    """

    finalists: int | None = None
    costs: bool = False
    profile: str = "laptop"

    def only(self, arms: Iterable[str] = (), seeds: Iterable[int] = ()) -> Self:
        """As `Study.only`, of arms and of groups; arms that are named get all seeds."""
        groups: dict[str, list[str]] = {}
        for name, arm in self.arms.items():
            groups.setdefault(arm.group, []).append(name)
        arms = list(arms)
        named = [name for wanted in arms for name in groups.get(wanted, [wanted])]
        part = super().only(named, seeds)
        if not named:
            return part
        if not any(name in groups for name in arms):
            part = replace(part, finalists=None)
        return replace(part, arms={k: replace(arm, once=False) for k, arm in part.arms.items()})

    def in_smoke(self) -> Self:
        """The same with less of everything: to see each arm work."""
        return replace(self, profile="smoke")

    def order(self, rows):
        if self.finalists or FIRST in self.seeds:
            yield from ((arm, FIRST) for arm in self.arms)
        further = self._further(rows)
        yield from ((arm, seed) for seed in self.seeds if seed != FIRST for arm in further)

    def _further(self, rows: list[dict]) -> list[str]:
        """The arms that get the other seeds, given the rows of `FIRST`."""
        arms = [name for name, arm in self.arms.items() if not arm.once]
        if self.finalists is None:
            return arms
        found = {row["arm"]: row["cider_d"] for row in rows}
        ranked: dict[str, list[str]] = {}
        for name in sorted(arms, key=lambda name: -found.get(name, 0.0)):
            ranked.setdefault(self.arms[name].group, []).append(name)
        best = {name for names in ranked.values() for name in names[: self.finalists]}
        return [name for name in arms if name in best]

    def task(self, arm: str, dataset: str, progress: bool = True) -> CaptionTask:
        """What an arm is trained and judged on, with all training images of the data set."""
        backbone = self.arm(arm).backbone
        if backbone is None and kind_of(dataset) == "photos":
            backbone = BACKBONE
        mirrored = caption_recipe(self.profile, dataset).mirrored
        return caption_task(
            dataset, self.profile, backbone=backbone, mirrored=mirrored, progress=progress
        )

    def recipe(self, arm: str, task: CaptionTask) -> CaptionRecipe:
        """How an arm is trained."""
        values = self.arm(arm).recipe | ({"epochs": 1} if self.profile == "smoke" else {})
        return caption_recipe(self.profile, task.dataset, len(task.data["train"]), **values)

    def learns(
        self, arm: str, task: CaptionTask, score: Callable | None = None, seed: int = 0
    ) -> TeacherForcing:
        """What an arm's captioner learns; arguments as for `train`."""
        made = self.arm(arm)
        task = _share(task, made.share, seed)
        vectors = _vectors(made, task, seed)
        arguments = decoder_arguments(made.decoder, task.dataset) | made.arguments
        if vectors is not None:
            arguments["vector_mode"] = made.mode
        return TeacherForcing(made.decoder, task, score, arguments, vectors)

    def train(
        self,
        arm: str,
        task: CaptionTask,
        settings: DeviceSettings,
        score: Callable | None = None,
        *,
        seed: int = 0,
        kept: bool = True,
        progress: bool = True,
    ) -> Trained:
        """Trains one arm.

        Args:
            arm: One of `arms`.
            task: From `task`.
            settings: From `captioner_settings`.
            score: See `TeacherForcing`.
            seed: Of everything random.
            kept: Whether the run is kept, and found again.
            progress: Show a progress bar.

        Raises:
            ConfigError: if there is no such arm.
            DataError: if its word vectors cannot be had.
        """
        learns = self.learns(arm, task, score, seed)
        run = self._run(arm, task, learns, settings, seed) if kept else None
        plan = self.recipe(arm, task)
        return experiment.train(learns, plan, settings, seed=seed, run=run, progress=progress)

    def _run(self, arm, task, learns, settings, seed) -> Run:
        """Where a training is kept, by the name that lesson 5 would give it."""
        made, dataset, plan = self.arms[arm], task.dataset, self.recipe(arm, task)
        usual = caption_recipe(self.profile, dataset, len(task.data["train"])).to_dict()
        changed = {
            _IN_NAMES.get(key, key): value
            for key, value in plan.to_dict().items()
            if value != usual[key]
        }
        told, name = embedding_identity(made.embedding, learns.vectors), made.embedding
        if made.shuffled:
            told["embedding"], name = f"{told['embedding']}, shuffled", f"{name}-shuffled"
        if learns.vectors is not None:
            told["vector_mode"] = made.mode
            name = f"{name}{made.numbers or ''}".replace(":", "-").replace("/", "-")
            changed |= {"embedding": name, "mode": made.mode}
        as_usual = decoder_arguments(made.decoder, dataset)
        changed |= {k: v for k, v in made.arguments.items() if v != as_usual.get(k)}
        if made.share < 1:
            changed["share"] = made.share
        label = run_label(
            *(own_label(dataset, task), self.profile, task.backbone["name"], made.decoder),
            seed=seed,
            **changed,
        )
        about = {"phase": self.phase, "dataset": dataset, "profile": self.profile, "seed": seed}
        return Run.labelled(label, run_config(learns, plan, settings, **about, **told))

    def run(
        self,
        dataset: str,
        settings: DeviceSettings,
        scorer: Scorer,
        judge: Judge,
        before: dict | None = None,
    ) -> Iterator[dict]:
        """Trains all arms, seed by seed; gives what is to be kept after each of them.

        Args:
            dataset: As for `load_captions`.
            settings: From `captioner_settings`.
            scorer, judge: What chooses epochs, and what scores captioners, on dev images.
            before: See `Study.table`.
        """
        tasks: dict[str | None, CaptionTask] = {}

        def task_of(arm: str) -> CaptionTask:
            backbone = self.arms[arm].backbone
            if backbone not in tasks:
                tasks[backbone] = self.task(arm, dataset)
            return tasks[backbone]

        def row(arm: str, seed: int) -> dict:
            task = task_of(arm)
            learns = self.learns(arm, task, scorer(task), seed)
            run = self._run(arm, task, learns, settings, seed)
            plan = self.recipe(arm, task)
            trained = experiment.train(learns, plan, settings, seed=seed, run=run)
            if "judged" not in trained.run.record:
                trained.run.add_to_record(judged=judge(trained.network, task))
            if self.costs and "costs" not in trained.run.record:
                trained.run.add_to_record(costs=backbone_costs(task))
            return self._row(arm, learns, trained)

        task = task_of(next(iter(self.arms)))
        about = {
            "dataset": dataset,
            "profile": self.profile,
            "split": "dev",
            "n": len(task.data["dev"]),
            "data": {"name": task.data["dev"].name, **task.description()},
        }
        yield from self.table(about, row, before)

    def _row(self, arm: str, learns: TeacherForcing, trained: Trained) -> dict:
        """What is kept of a training."""
        made, record, history = self.arms[arm], trained.run.record, trained.history
        best = history.iloc[kept_epoch(history["val_score"])]
        return {
            "arm": arm,
            **({"group": made.group} if made.group else {}),
            **({"chose": record["seed"] == FIRST} if self.finalists else {}),
            "decoder": made.decoder,
            "backbone": learns.task.backbone["name"],
            "n_train": len(learns.task.data["train"]),
            **{key: record[key] for key in ("seed", "epochs", "parameters")},
            "seconds": round(record["seconds"], 1),
            "kept_epoch": int(best["epoch"]),
            "loss": float(best["loss"]),
            "val_loss": float(best["val_loss"]),
            **_coverage(made, learns),
            **(record["costs"] if self.costs else {}),
            **record["judged"],
            "run": trained.run.name,
            "history": {name: [round(float(x), 5) for x in history[name]] for name in CURVES},
            "computed_in": record["device"]["precision"],
            "processor": record["hardware"]["processor"],
        }


def backbone_costs(task: CaptionTask, rounds: int = 5) -> dict[str, float]:
    """What the backbone of a task costs.

    Returns:
        `backbone_parameters`; `download_mb`, the size of these in float32, as Keras's files have
        them; `images_per_second` that it computes of arrays in memory, `BATCH` at a time, by the
        median of the rounds; `features_mb` of all images on the disk, those of mirrored ones
        included; `measured_on`, the processor. MB are millions of bytes.
    """
    network = image_backbone(task.backbone["name"], task.backbone["weights"])
    extractor = Extractor(network)
    shape = (BATCH, extractor.size, extractor.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    extractor(images)  # compiled
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        extractor(images)
        seconds.append(time.perf_counter() - start)
    arrays = [array for part in task.features.values() for array in (part.features, part.mirrored)]
    return {
        "backbone_parameters": network.count_params(),
        "download_mb": round(4e-6 * network.count_params(), 1),
        "images_per_second": round(BATCH / float(np.median(seconds)), 1),
        "features_mb": round(sum(array.nbytes for array in arrays if array is not None) / 1e6, 1),
        "measured_on": hardware()["processor"],
    }


def _share(task: CaptionTask, share: float, seed: int) -> CaptionTask:
    """The task with a share of its training images, drawn; its words stay."""
    if share == 1:
        return task
    images = len(task.data["train"])
    count = max(1, round(share * images))
    drawn = np.sort(np.random.default_rng(seed).choice(images, count, replace=False))
    return replace(
        task,
        data=task.data | {"train": task.data["train"].subset(drawn)},
        features=task.features | {"train": task.features["train"].subset(drawn)},
    )


def _vectors(arm: CaptionArm, task: CaptionTask, seed: int) -> WordVectors | None:
    """The vectors that an arm's words begin with; `None` for numbers of the decoder's width."""
    vocabulary = task.vocabulary
    if arm.numbers is not None:
        size = (len(vocabulary), arm.numbers)
        numbers = np.random.default_rng(seed).standard_normal(size, dtype="float32")
        return WordVectors("random numbers", numbers, np.zeros(len(vocabulary), bool))
    captions = [caption for image in task.features["train"].references for caption in image]
    vectors = embedding_vectors(arm.embedding, vocabulary, captions)
    if arm.shuffled:
        order = np.random.default_rng(seed).permutation(len(vocabulary))
        vectors = replace(vectors, vectors=vectors.vectors[order], found=vectors.found[order])
    return vectors


def _coverage(arm: CaptionArm, learns: TeacherForcing) -> dict[str, float]:
    """Which words have a vector of their own, of those that begin with vectors from elsewhere."""
    if learns.vectors is None or arm.shuffled or arm.numbers is not None:
        return {}
    train = learns.task.features["train"].references
    captions = [caption for image in train for caption in image]
    found = learns.vectors.coverage(learns.task.vocabulary, captions)
    return {f"coverage_{what}": round(share, 4) for what, share in found.items()}
