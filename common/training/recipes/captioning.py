"""Every hyper-parameter of captioning: decoders, teacher forcing, rewards.

The trials that the values come from stand in `phase3_captioning/LOG.md`.
"""

import math
from dataclasses import dataclass, replace

import keras

from common.choices import is_own
from common.training.backend import DeviceSettings, device_settings
from common.training.recipes.base import BaseRecipe, resolve_profile
from common.training.schedules import OneCycle

BASELINES = ("leave_one_out", "greedy", "none")


@dataclass(frozen=True)
class CaptionRecipe(BaseRecipe):
    """How a captioner is trained by teacher forcing.

    Attributes:
        epochs: Passes over the training images; each pass has all captions of each image.
        batch_size: Images per step.
        learning_rate: Peak of AdamW's one-cycle schedule.
        weight_decay: Decoupled; not on biases, norms and embeddings.
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Largest length of the gradient of all weights together; 0 for no limit.
        label_smoothing: Share of each target spread over all words that a caption may have.
        attention_penalty: Weight of the doubly stochastic penalty, see `doubly_stochastic_penalty`.
        patience: Epochs in a row without a better dev score after which training stops; 0: never.
        mirrored: Draw each image mirrored half of the time, where such features are given.
    """

    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    attention_penalty: float = 0.0
    patience: int = 0
    mirrored: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.require(0 <= self.label_smoothing < 1, "must lie in [0, 1)", "label_smoothing")

    def make_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """AdamW with its one-cycle schedule."""
        optimizer = keras.optimizers.AdamW(
            OneCycle(self.learning_rate, total_steps, self.warmup),
            weight_decay=self.weight_decay,
            beta_2=0.98,
            global_clipnorm=self.clip_norm or None,
        )
        optimizer.exclude_from_weight_decay(
            var_names=["bias", "gamma", "beta", "embeddings", "positions", "places"]
        )
        return optimizer


@dataclass(frozen=True)
class RewardRecipe(BaseRecipe):
    """How a captioner is trained by a reward.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.
        captions: Drawn of each image in a step.
        region_dropout: Share of an image's regions hidden in a step, the same ones from the drawing
            of its captions and from the learning: against learning the training images by heart.
        baseline: What is taken off a caption's reward: "leave_one_out", the mean reward of the
            other captions of its image; "greedy", the reward of the likeliest words; "none".
        learning_rate: Peak of Adam's one-cycle schedule.
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Largest length of the gradient of all weights together; 0 for no limit.
        patience: Epochs in a row without a better dev score after which training stops; 0: never.
    """

    batch_size: int = 32
    captions: int = 5
    region_dropout: float = 0.0
    baseline: str = "leave_one_out"
    learning_rate: float = 3e-5
    warmup: float = 0.1
    clip_norm: float = 1.0
    patience: int = 0

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(BASELINES, "baseline")
        self.require(self.captions >= 1, "must be at least 1", "captions")
        self.require(0 <= self.region_dropout < 1, "must lie in [0, 1)", "region_dropout")
        self.require(
            self.baseline != "leave_one_out" or self.captions >= 2,
            "do not fit: leave_one_out needs two captions of each image",
            "baseline",
            "captions",
        )

    def make_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """Adam with its one-cycle schedule."""
        schedule = OneCycle(self.learning_rate, total_steps, self.warmup)
        return keras.optimizers.Adam(schedule, global_clipnorm=self.clip_norm or None)


# No label smoothing: who writes scenes' captions is never unsure of what is there.
_SCENES = CaptionRecipe(epochs=4, batch_size=32, learning_rate=2e-3, label_smoothing=0.0)
# By data set ("photos" for all but the one drawn by code) and profile.
CAPTION_RECIPES = {
    ("synthetic", "smoke"): _SCENES,
    ("synthetic", "laptop"): replace(_SCENES, epochs=12),
    ("synthetic", "full"): replace(_SCENES, epochs=12),
    ("photos", "smoke"): CaptionRecipe(epochs=2),
    ("photos", "laptop"): CaptionRecipe(
        epochs=20, batch_size=32, learning_rate=2e-3, mirrored=True
    ),
    ("photos", "full"): CaptionRecipe(epochs=20, batch_size=64, mirrored=True, patience=4),
}
# Of a training on data of one's own.
_FEWEST_STEPS = {"smoke": 40, "laptop": 1000, "full": 1000}
# From a captioner that was trained by teacher forcing.
REWARD_RECIPES = {
    ("synthetic", "smoke"): RewardRecipe(epochs=1, learning_rate=2e-4),
    ("synthetic", "laptop"): RewardRecipe(epochs=4, learning_rate=2e-4),
    ("synthetic", "full"): RewardRecipe(epochs=8, learning_rate=2e-4),
    ("photos", "smoke"): RewardRecipe(epochs=1),
    ("photos", "laptop"): RewardRecipe(epochs=6, learning_rate=3e-5, region_dropout=0.3),
    ("photos", "full"): RewardRecipe(epochs=20, batch_size=64, region_dropout=0.3, patience=5),
}
SIZES = {
    "synthetic": {"width": 96, "max_length": 16},
    # Where things are is the most of a scene, and little of a photo: there nothing was gained by
    # places that are long from the start.
    "photos": {"width": 256, "max_length": 20, "places_std": 0.0},
}
# What the recurrent decoders are made with beside that, and those of self-attention.
RECURRENT = {
    "synthetic": {"units": 128, "dropout": 0.0},
    "photos": {"units": 512, "dropout": 0.4, "region_dropout": 0.25},
}
SELF_ATTENTION = {
    "synthetic": {"dropout": 0.0},
    "photos": {"dropout": 0.3, "region_dropout": 0.2},
}


def kind_of(dataset: str) -> str:
    """Which of the tables above holds for a data set."""
    return "synthetic" if dataset == "synthetic" else "photos"


def caption_recipe(
    profile: str, dataset: str, images: int | None = None, **overrides
) -> CaptionRecipe:
    """The recipe of a profile for a data set, with some values replaced.

    Args:
        profile: One of `PROFILES`, or `None`.
        dataset: As a lesson takes it.
        images: How many there are to train on. Of one's own, few take more passes, up to ten times
            as many: else a training would be over before it has learned anything.
        **overrides: Other values; `None` for those that stay.

    Raises:
        ConfigError: for an unknown profile or hyper-parameter.
    """
    profile = resolve_profile(profile)
    recipe = CAPTION_RECIPES[kind_of(dataset), profile]
    if images and is_own(dataset):
        passes = math.ceil(_FEWEST_STEPS[profile] / max(1, images // recipe.batch_size))
        recipe = replace(recipe, epochs=max(recipe.epochs, min(passes, 10 * recipe.epochs)))
    return recipe.changed(**overrides)


def reward_recipe(profile: str, dataset: str, **overrides) -> RewardRecipe:
    """As `caption_recipe`, for training by rewards."""
    return REWARD_RECIPES[kind_of(dataset), resolve_profile(profile)].changed(**overrides)


def captioner_settings(dataset: str, **options) -> DeviceSettings:
    """`device_settings(**options)`, but float32 where decoders are small, as those of scenes.

    On a CPU they would gain nothing from bfloat16.
    """
    if kind_of(dataset) == "synthetic" and options.get("precision") is None:
        options["precision"] = "float32"
    return device_settings(**options)


def decoder_arguments(name: str, dataset: str) -> dict:
    """What a decoder of the ladder is made with for a data set, beside its vocabulary."""
    kind = kind_of(dataset)
    recurrent = name in ("rnn", "lstm", "attention_lstm")
    return SIZES[kind] | (RECURRENT if recurrent else SELF_ATTENTION)[kind]
