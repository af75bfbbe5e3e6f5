"""Studies of networks that classify images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np

from common.data.images import ImageData
from common.models.resnet import ResNetConfig, with_pixel_statistics
from common.models.summary import count_macs
from common.training import experiment
from common.training.backend import DeviceSettings
from common.training.classification import Classification
from common.training.experiment import Trained, run_config, run_label
from common.training.recipes import Recipe
from common.training.runs import Run
from common.training.studies.base import Study

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
class ImageStudy(Study):
    """Arms of the kind `Arm`.

    Attributes:
        images: Training images used; `None` for all.
        own_statistics: Pixels are scaled by mean and deviation of the training images.
        everyone: The patients of the test take part: `parts` keeps from each network those that it
            is judged by, and nothing is chosen.
    """

    images: int | None = None
    own_statistics: bool = False
    everyone: bool = False

    def shortened(self, images: int, epochs: int, batch_size: int) -> "ImageStudy":
        """The same with less of everything: to see each arm work."""

        def short(arm: Arm) -> Arm:
            return replace(arm, recipe=replace(arm.recipe, epochs=epochs, batch_size=batch_size))

        arms = {name: short(arm) for name, arm in self.arms.items()}
        return replace(self, arms=arms, images=images)

    def in_smoke(self) -> "ImageStudy":
        """So little of everything that it takes minutes."""
        return self.shortened(images=600, epochs=2, batch_size=50)

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
        network, parts = self.arm(arm).network, self.arm(arm).parts
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
        before: dict | None = None,
    ) -> Iterator[dict]:
        """Trains all arms, seed by seed; gives what is to be kept after each of them.

        Args:
            dataset, train, validation, settings: As for `train`.
            judge: Scores a network on its validation images, beyond loss and accuracy.
            before: See `Study.table`.
        """
        used = train.at_most(self.images, seed=0)

        def row(arm: str, seed: int) -> dict:
            trained = self.train(arm, used, validation, settings, seed=seed, dataset=dataset)
            if judge is not None and "judged" not in trained.run.record:
                held = self.learns(arm, used, validation, seed).validation
                trained.run.add_to_record(judged=judge(trained.network, held))
            return _row(arm, trained, used.images.shape[1])

        about = {
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
        }
        yield from self.table(about, row, before)


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
