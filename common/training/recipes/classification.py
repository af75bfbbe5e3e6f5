"""Every hyper-parameter of image classification, in one place.

`RECIPES` holds a recipe per profile for phase 1, `PHASE2_RECIPES` for phase 2. The trials that the
former come from stand in `phase1_cifar/LOG.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import keras

from common.data.images import ImageData
from common.errors import ConfigError
from common.layers.augmentation import (
    RandomColour,
    RandomCutout,
    RandomFlip,
    RandomShift,
    RandomStain,
    RandomSymmetry,
)
from common.layers.batch_transforms import AlternatingFlip, MixUp
from common.models.resnet import CIFAR10_MEAN, CIFAR10_STD
from common.training.losses import FocalLoss, WeightedCrossEntropy, class_weights
from common.training.optimizers import Muon
from common.training.recipes.base import BaseRecipe, resolve_profile
from common.training.schedules import OneCycle

OPTIMIZERS = ("muon", "normalised", "sgd")
FLIPS = ("alternating", "random", "symmetries", "none")
IMBALANCES = ("none", "class_weights", "balanced_batches", "focal")


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """How a classifier is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.
        optimizer: "muon" (kernels by Muon, the rest by SGD), "normalised" (the same, but steps of
            the kernels are as long and not orthogonal) or "sgd" (Nesterov).
        learning_rate: Peak; of the kernels with Muon.
        momentum: Of the kernels with Muon, of everything with SGD.
        other_learning_rate: Muon only: peak for biases and batch norm, per image of the batch
            (the loss is a mean over the batch, so it is multiplied by the batch size). It is so
            large because the fast net's logits are scaled down by its `head_scale`.
        head_learning_rate: Muon only: peak for the classifier, per image of the batch.
        weight_decay: SGD only (with Muon kernels have a fixed norm): decoupled, kernels only,
            never on norms and biases.
        warmup: Share of the steps in which the learning rate rises.
        drops: Shares of the steps after which the learning rate falls to a tenth, in order; empty
            for one rise and fall, see `OneCycle`.
        label_smoothing: Share of each target spread over all classes.
        ema_momentum: Average of the weights, kept step by step and used in the end; 0 for none.
        ema_overwrite_every: Steps after which the weights are set to their average (as in
            lookahead, Zhang et al. 2019); 0 for only at the end.
        sizes: Progressive resizing: `((share of the epochs, side in pixels), ...)` in order;
            empty for the images' own size.
        flip: "alternating" or "random": left to right; "symmetries": all eight of the square, each
            image and time its own; or "none".
        shift: Largest shift in pixels of the images as they are stored; 0 for none.
        cutout: Side of the square cut out, in the same pixels; 0 for none.
        colour: Strength of the jitter of brightness, contrast and saturation; 0 for none.
        corruption: Share of the images that come compressed as JPEG or noisy, others each time, see
            `corrupt_some`; 0 for none.
        mixup: Alpha of mixup's Beta distribution; 0 for none.
        stain: Strength of the jitter of haematoxylin, eosin and DAB, see `RandomStain`; 0 for
            none.
        light: Largest change of the light, see `RandomStain`; 0 for none.
        imbalance: What is done about classes of unequal size: "none"; "class_weights" in the loss;
            "balanced_batches", see `ImageBatches`; or "focal", the focal loss.
        focal_gamma: Of the focal loss; with `imbalance="focal"` only.
    """

    batch_size: int = 500
    optimizer: str = "muon"
    learning_rate: float = 0.12
    momentum: float = 0.6
    other_learning_rate: float = 0.053
    head_learning_rate: float = 0.67
    weight_decay: float = 5e-4
    warmup: float = 0.0
    label_smoothing: float = 0.2
    ema_momentum: float = 0.0
    ema_overwrite_every: int = 0
    sizes: tuple[tuple[float, int], ...] = ()
    flip: str = "alternating"
    shift: int = 2
    cutout: int = 0
    colour: float = 0.0
    corruption: float = 0.0
    mixup: float = 0.0
    stain: float = 0.0
    light: float = 0.0
    imbalance: str = "none"
    focal_gamma: float = 2.0
    drops: tuple[float, ...] = ()
    LATER: ClassVar = ("light", "drops")

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(OPTIMIZERS, "optimizer")
        self.require_one_of(FLIPS, "flip")
        self.require_one_of(IMBALANCES, "imbalance")
        self.require(0 <= self.stain <= 1, "must lie in 0..1", "stain")
        self.require(self.light >= 0, "must not be negative", "light")
        self.require(0 <= self.corruption <= 1, "must lie in 0..1", "corruption")
        self.require(self.focal_gamma >= 0, "must not be negative", "focal_gamma")
        drops = (0, *self.drops, 1)
        rising = all(a < b for a, b in zip(drops, drops[1:], strict=False))
        self.require(rising, "must be shares of the training, in order", "drops")
        self.require(not (self.drops and self.warmup), "have no warm-up", "drops", "warmup")
        shares = sum(share for share, _ in self.sizes)
        self.require(not self.sizes or abs(shares - 1) < 1e-6, "must have shares of sum 1", "sizes")

    def phases(self) -> list[tuple[int, int, int | None]]:
        """`(first epoch, end epoch, size)` for each image size, in order."""
        if not self.sizes:
            return [(0, self.epochs, None)]
        phases, start, done = [], 0, 0.0
        for share, size in self.sizes:
            done += share
            end = round(done * self.epochs)
            if end > start:
                phases.append((start, end, size))
            start = end
        return phases

    def acting(self) -> dict:
        """The values that act: nothing that is switched off, or of the other optimizer."""
        muons = {"other_learning_rate", "head_learning_rate"}
        idle = muons if self.optimizer == "sgd" else {"weight_decay"}
        if self.imbalance != "focal":
            idle |= {"focal_gamma"}
        values = self.to_dict().items()
        return {name: v for name, v in values if name not in idle and v not in (0, (), "none")}

    def make_optimizer(self, total_steps: int, schedule=None) -> keras.optimizers.Optimizer:
        """The optimizer with the recipe's schedule, or another one."""
        ema = {
            "use_ema": self.ema_momentum > 0,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_every or None,
        }
        if schedule is None:
            schedule = self._schedule(total_steps)
        if self.optimizer != "sgd":
            return Muon(
                schedule,
                self.momentum,
                other_learning_rate=self.other_learning_rate * self.batch_size,
                head_learning_rate=self.head_learning_rate * self.batch_size,
                peak_learning_rate=self.learning_rate,
                newton_schulz_steps=3 if self.optimizer == "muon" else 0,
                **ema,
            )
        optimizer = keras.optimizers.SGD(
            schedule, self.momentum, nesterov=True, weight_decay=self.weight_decay, **ema
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer

    def _schedule(self, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        if not self.drops:
            return OneCycle(self.learning_rate, total_steps, self.warmup)
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(share * total_steps) for share in self.drops],
            [self.learning_rate * 0.1**n for n in range(len(self.drops) + 1)],
        )

    def make_loss(self, train: ImageData) -> keras.losses.Loss:
        """What training minimises, of targets and logits.

        Raises:
            DataError: for class weights where a class has no image.
        """
        if self.imbalance == "class_weights":
            return WeightedCrossEntropy(class_weights(train))
        if self.imbalance == "focal":
            return FocalLoss(self.focal_gamma)
        return keras.losses.CategoricalCrossentropy(from_logits=True)

    def augmentation_layers(
        self,
        seed: int = 0,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
    ) -> list[keras.Layer]:
        """Layers that stand in the model, after the scaling of the pixels by `mean` and `std`."""
        layers = []
        if self.flip == "random":
            layers.append(RandomFlip(seed=seed + 1))
        if self.flip == "symmetries":
            layers.append(RandomSymmetry(seed=seed + 1))
        if self.shift:
            layers.append(RandomShift(self.shift, seed=seed + 2))
        if self.stain or self.light:
            layers.append(RandomStain(mean, std, self.stain, self.light, seed=seed + 6))
        if self.colour:
            strength = self.colour
            layers.append(RandomColour(strength, strength, strength, seed=seed + 3))
        if self.cutout:
            layers.append(RandomCutout(self.cutout, seed=seed + 4))
        return layers

    def batch_transforms(self, seed: int = 0) -> list:
        """Transforms of the batch, before the model."""
        transforms = []
        if self.flip == "alternating":
            transforms.append(AlternatingFlip(seed))
        if self.mixup:
            transforms.append(MixUp(self.mixup, seed + 5))
        return transforms


def recipe(profile: str, classic: bool = False, phase: str = "phase1_cifar", **overrides) -> Recipe:
    """The recipe of a profile, with some values replaced.

    Args:
        profile: One of `PROFILES`.
        classic: For networks with an ordinary head, such as ResNet-20: SGD instead of Muon.
        phase: "phase1_cifar" or "phase2_histopathology".
        **overrides: Attributes of `Recipe`.

    Raises:
        ConfigError: for an unknown profile, phase or hyper-parameter.
    """
    recipes = {"phase1_cifar": RECIPES, "phase2_histopathology": PHASE2_RECIPES}
    if phase not in recipes:
        raise ConfigError(f"phase={phase!r} has no recipes. Choose one of {tuple(recipes)}.")
    made = recipes[phase][resolve_profile(profile)]
    return made.changed(**{**(CLASSIC if classic else {}), **overrides})


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """The recipe with batches of another size, and the learning rate that goes with it.

    In proportion to the batch size for SGD (Goyal et al. 2017), to its square root for Muon; its
    other rates are per image already.
    """
    ratio = batch_size / recipe.batch_size
    rate = recipe.learning_rate * (ratio if recipe.optimizer == "sgd" else ratio**0.5)
    return replace(recipe, batch_size=batch_size, learning_rate=rate)


def for_images(recipe: Recipe, count: int, steps: int = 20) -> Recipe:
    """The recipe with smaller batches where an epoch would have fewer than so many steps.

    Args:
        count: Training images.
        steps: Per epoch, at least; batches have 16 images or more all the same.
    """
    batch_size = min(recipe.batch_size, max(16, count // steps))
    return recipe if batch_size == recipe.batch_size else with_batch_size(recipe, batch_size)


def augmented(recipe: Recipe, kind: str) -> Recipe:
    """The recipe with one kind of its augmentation alone, with all of it, or with none.

    `corruption` stays: it is no choice between networks, but what keeps each of them whole.

    Args:
        recipe: With every kind of `AUGMENTATIONS`.
        kind: One of `AUGMENTATIONS`, "all" or "none".

    Raises:
        ConfigError: for another kind.
    """
    if kind == "all":
        return recipe
    if kind != "none" and kind not in AUGMENTATIONS:
        known = ", ".join(("all", "none", *AUGMENTATIONS))
        raise ConfigError(f"There is no augmentation {kind!r}. Choose one of: {known}.")
    off = {name: "none" if name == "flip" else 0 for name in AUGMENTATIONS.values()}
    off.pop(AUGMENTATIONS.get(kind), None)
    return replace(recipe, **off)


def ablations(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, and the recipe with one ingredient changed each."""
    changes = {
        "whole recipe": {},
        "no label smoothing": {"label_smoothing": 0.0},
        "random flips": {"flip": "random"},
        "no flips": {"flip": "none"},
        "no shifts": {"shift": 0},
        "no orthogonalisation": {"optimizer": "normalised"},
        "small images first": {"sizes": ((0.4, 20), (0.3, 26), (0.3, 32))},
        "half the corruption": {"corruption": recipe.corruption / 2},
        "no corruption": {"corruption": 0.0},
    }
    return {name: replace(recipe, **values) for name, values in changes.items()}


# Phase 1. The network of each profile: one of `common.models.PRESETS`.
NETWORKS = {"smoke": "fast_small", "laptop": "fast", "full": "fast_large"}

# Training images used, validation included; `None` for all there are.
TRAIN_IMAGES = {"smoke": 3000, "laptop": None, "full": None}
TEST_IMAGES = {"smoke": 1000, "laptop": None, "full": None}

# Learning rates: cifar10-airbench's (batch 2000) scaled by the square root of the batch size for
# Muon, linearly for the rest. What was tried: phase1_cifar/LOG.md.
RECIPES = {
    # The whole course in minutes: enough to see each thing work.
    "smoke": Recipe(
        epochs=4,
        batch_size=100,
        learning_rate=0.06,
        sizes=((0.5, 20), (0.5, 24)),
        corruption=0.4,
    ),
    # Two processor cores without bfloat16: 65 to 81 minutes.
    "laptop": Recipe(epochs=16, corruption=0.1),
    # A GPU, or five hours of two such cores: a wider network, as in airbench95.
    "full": Recipe(epochs=20, corruption=0.4),
}

# Phase 2. `None` for all patients and all training patches there are.
PHASE2_NETWORKS = {"smoke": "fast_small", "laptop": "fast_small", "full": "fast_large"}
PATIENTS = {"smoke": 15, "laptop": None, "full": None}
PATCHES = {"smoke": 3000, "laptop": None, "full": None}

# Tissue has no up and no left, so all symmetries; stains differ from laboratory to laboratory, so
# their jitter, as strong as in Tellez et al. (2018). Learning rates are phase 1's.
_TISSUE = Recipe(
    epochs=10,
    sizes=((0.4, 24), (0.3, 36), (0.3, 50)),
    label_smoothing=0.1,
    flip="symmetries",
    shift=2,
    cutout=8,
    colour=0.1,
    corruption=0.4,
    mixup=0.2,
    stain=0.05,
)
PHASE2_RECIPES = {
    "smoke": replace(
        _TISSUE, epochs=4, batch_size=100, learning_rate=0.06, sizes=((0.5, 24), (0.5, 32))
    ),
    "laptop": _TISSUE,
    # A GPU; not measured by us. Expected, scaled from what was measured on a tree of the IDC set's
    # size: 166,000 of its patches train; the parts of a split take 2.2 GB of memory beside the
    # 2.1 GB of the cache, which is mapped; on the GPU some 4 GB (the blocks' outputs are 0.84 GB
    # a batch in bfloat16, and about as much three times over inside them). The training computes
    # 5.8e15 operations, 2.4 times phase 1's `full`: three to eight minutes. F1 of about 90 % on a
    # random split, the aim, and of about 80 % by patient: with the published lists Cruz-Roa et
    # al. (2014) had 71.8 %, Janowczyk and Madabhushi (2016) 76.5 %, both with smaller networks.
    "full": replace(_TISSUE, epochs=12, batch_size=1000, learning_rate=0.17, ema_momentum=0.99),
}
# What `augmented` chooses from: each kind of augmentation, and what a recipe calls it.
AUGMENTATIONS = {
    "symmetries": "flip",
    "stain": "stain",
    "colour": "colour",
    "shift": "shift",
    "cutout": "cutout",
    "mixup": "mixup",
}

# He et al. (2015), section 4.2, who train 64,000 steps, 182 epochs of 45,000 images. Their weight
# decay of 1e-4 is part of the gradient, and so goes through the momentum, which makes it ten times
# as strong as a decoupled one. Momentum is Nesterov's here, and theirs is not.
PAPER = {
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "drops": (0.5, 0.75),
    "label_smoothing": 0.0,
    "flip": "random",
    "shift": 4,
    "corruption": 0.0,
}
# The same with a one-cycle schedule: for networks with an ordinary head, in few epochs.
CLASSIC = {
    "optimizer": "sgd",
    "learning_rate": 0.4,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warmup": 0.2,
    "label_smoothing": 0.1,
}
