"""Self-critical training: a captioner draws captions, has them scored, and learns from the scores.

A score such as BLEU has no gradient: it counts words. But the mean score of the captions that a
network draws does have one. With `r(w)` for the reward of a caption `w`,

    grad E[r(w)] = E[(r(w) - b) grad log p(w)]

for any baseline `b` that does not depend on `w`. The right side can be drawn. A good baseline does
not change its mean, and makes its variance small.

Sources: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning" (1992); Rennie et al., "Self-critical Sequence Training for Image
Captioning" (2017), the greedy baseline; Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for
Free!" (2019), leave-one-out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common.data.vocabulary import BAD_ENDINGS, END, PAD, START, Vocabulary
from common.errors import ConfigError, DataError
from common.models.decoders import Decoder
from common.models.decoding import possible_words
from common.training.backend import DeviceSettings, forget_gradients
from common.training.batches import CaptionBatches
from common.training.captioning import CaptionedFeatures, Generated, Supervision
from common.training.fit import FitResult, one_training
from common.training.generation import Generator, caption_tokens
from common.training.schedules import OneCycle

BASELINES = ("leave_one_out", "greedy", "none")

# Captions (lists of words), and the number of the training image that each describes, to rewards.
Reward = Callable[[Sequence[Sequence[str]], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RewardRecipe:
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

    epochs: int
    batch_size: int = 32
    captions: int = 5
    region_dropout: float = 0.0
    baseline: str = "leave_one_out"
    learning_rate: float = 3e-5
    warmup: float = 0.1
    clip_norm: float = 1.0
    patience: int = 0

    def __post_init__(self):
        if self.baseline not in BASELINES:
            raise ConfigError(f"baseline={self.baseline!r} is unknown. Choose one of {BASELINES}.")
        if min(self.epochs, self.batch_size, self.captions) < 1:
            raise ConfigError(
                "epochs, batch_size and captions must be at least 1. Received: "
                f"epochs={self.epochs}, batch_size={self.batch_size}, captions={self.captions}"
            )
        if not 0 <= self.region_dropout < 1:
            raise ConfigError(
                f"region_dropout must be at least 0 and below 1. Received: {self.region_dropout}"
            )
        if self.baseline == "leave_one_out" and self.captions < 2:
            raise ConfigError("The baseline 'leave_one_out' needs two captions of each image.")

    def to_dict(self) -> dict:
        """All values, as records keep them."""
        return asdict(self)

    def make_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """Adam with its one-cycle schedule."""
        schedule = OneCycle(self.learning_rate, total_steps, self.warmup)
        return keras.optimizers.Adam(schedule, global_clipnorm=self.clip_norm or None)


def reward_of(function: Callable, references: Sequence[Sequence[Sequence[str]]]) -> Reward:
    """Any function of captions and their references as a reward."""
    return lambda captions, images: function(captions, [references[i] for i in images])


def advantages(rewards: np.ndarray, baseline: str, greedy: np.ndarray | None = None) -> np.ndarray:
    """Rewards less their baseline, in the shape of the rewards.

    Args:
        rewards: `(images, captions)`.
        baseline: One of `BASELINES`.
        greedy: For "greedy" the rewards of the greedy captions, `(images,)`.
    """
    if baseline == "greedy":
        return rewards - greedy[:, None]
    if baseline == "leave_one_out":
        count = rewards.shape[1]
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (count - 1)
        return rewards - others
    return rewards


def hide_regions(features: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Features `(B, N, channels)` with about this share of the regions at 0, as dropout does it."""
    if not share:
        return features
    kept = np.random.default_rng(seed).random((*features.shape[:2], 1)) >= share
    return np.where(kept, features / (1 - share), 0).astype(features.dtype)


class Rewarded(keras.Model):
    """A decoder as it is trained by rewards: captions that it drew, weighted by their advantages.

    1. `loss = - mean over captions of advantage * sum over its words of log p(word)`.

    `<end>` is one of the words: how to end is learned, too. Dropout is off, and words that are
    never drawn have no probability: so the captions are of the very distribution that is
    differentiated. What noise there is against overfitting lies in the image, `hide_regions`.
    Save `decoder`, never this wrapper.

    Args:
        decoder: The decoder.
    """

    def __init__(self, decoder: Decoder):
        super().__init__(name="rewarded")
        self.decoder = decoder

    def build(self, input_shape):
        # The decoder is built already.
        self.built = True

    def call(self, inputs, training=False):
        logits = self.decoder(inputs["features"], inputs["tokens"][..., :-1], training=False)
        log_p = ops.log_softmax(possible_words(logits), axis=-1)
        words = inputs["tokens"][..., 1:]
        chosen = ops.take_along_axis(log_p, words[..., None], axis=-1)[..., 0]
        return ops.sum(ops.where(words != PAD, chosen, 0.0), axis=-1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return -ops.mean(y * y_pred)


class Critic:
    """Draws captions of training images and has them scored.

    Args:
        generator: Of the decoder in training; its batch size is that of the recipe.
        reward: Of captions and the numbers of their images.
        recipe: The hyper-parameters.
    """

    def __init__(self, generator: Generator, reward: Reward, recipe: RewardRecipe):
        self.generator = generator
        self.reward = reward
        self.recipe = recipe

    def __call__(self, features: np.ndarray, images: np.ndarray, seed: int) -> dict:
        """Tokens of captions that were drawn, with `<start>`, their rewards and advantages.

        Args:
            features: `(B, N, channels)`.
            images: Their numbers, `(B,)`.
            seed: Of the drawing.

        Returns:
            `tokens` int32 `(B, K, T)`, `rewards` and `advantages` `(B, K)`, and `log_p`, the log
            probabilities of the captions, `(B, K)`.

        Raises:
            DataError: for rewards that are not one finite number per caption.
        """
        count = self.recipe.captions
        tokens, log_p = self.generator.tokens(features, "sample", captions=count, seed=seed)
        rewards = self.rewards(tokens, images)
        greedy = None
        if self.recipe.baseline == "greedy":
            greedy = self.rewards(self.generator.tokens(features)[0], images)[:, 0]
        found = advantages(rewards, self.recipe.baseline, greedy)
        tokens = np.pad(tokens, ((0, 0), (0, 0), (1, 0)), constant_values=START)
        return {"tokens": tokens, "rewards": rewards, "advantages": found, "log_p": log_p}

    def rewards(self, tokens: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Rewards `(B, K)` of captions without `<start>`, `(B, K, T)`, of images `(B,)`.

        Raises:
            DataError: for rewards that are not one finite number per caption.
        """
        words = self.generator.vocabulary.words
        captions = [
            # With `<end>`: a caption that was cut off must not score as one that ended there.
            [words[token] for token in row if token != PAD]
            for row in tokens.reshape(-1, tokens.shape[-1])
        ]
        numbers = np.repeat(images, tokens.shape[1])
        rewards = np.asarray(self.reward(captions, numbers), "float64")
        if rewards.shape != (len(captions),):
            raise DataError(
                f"The reward must give one number per caption, {len(captions)} in all. Received: "
                f"an array of shape {rewards.shape}"
            )
        if not np.isfinite(rewards).all():
            place = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise DataError(
                f"The reward of the caption {' '.join(captions[place])!r} of training image "
                f"{numbers[place]} is {rewards[place]}. Rewards must be finite numbers."
            )
        return rewards.reshape(tokens.shape[:2])


class DrawnGradient:
    """The gradient of a decoder's weights that one step of captions gives, to look at.

    Args:
        decoder: The decoder, in float32; its weights stay as they are.
    """

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.model = Rewarded(decoder)
        self.model.compile(keras.optimizers.SGD(1.0), jit_compile=False)

    def __call__(self, features: np.ndarray, drawn: dict) -> np.ndarray:
        """The gradient of the expected reward as `drawn` by a `Critic`: all weights in a row."""
        before = self.decoder.get_weights()
        inputs = {"features": features, "tokens": drawn["tokens"]}
        self.model.train_on_batch(inputs, drawn["advantages"].astype("float32"))
        after = self.decoder.get_weights()
        self.decoder.set_weights(before)
        return np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)])


@one_training
def fit_reward(
    decoder: Decoder,
    vocabulary: Vocabulary,
    train: CaptionedFeatures,
    dev: CaptionedFeatures,
    reward: Reward,
    recipe: RewardRecipe,
    settings: DeviceSettings,
    *,
    score: Callable,
    seed: int = 0,
    folder: str | Path | None = None,
    tensorboard: bool = True,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    progress: bool = True,
) -> FitResult:
    """Trains `decoder` in place by a reward; goes on where a killed training stopped.

    The order of an epoch and what is drawn follow from `seed` and the epoch. Ends with the epoch
    of the best dev score if there is a folder, else with the last.

    Args:
        decoder: A trained decoder: from random weights every caption scores about as badly, and
            there is nothing to learn from. Made under `device_scope(settings)`.
        vocabulary: Its words.
        train: Training images; their features are drawn mirrored half of the time if given.
        dev: Scored after each epoch by captions written greedily.
        reward: Of captions (lists of words, `<end>` last if they ended) and the numbers of their
            images in `train`; larger is better. See `reward_of`.
        recipe: The hyper-parameters.
        settings: From `device_settings`; call this inside `device_scope(settings)`.
        score: Of captions of the dev images and references, after each epoch; larger is better.
        seed: Of all that is random.
        folder: Where checkpoints and logs are kept; without one nothing is.
        tensorboard: Write TensorBoard logs into `folder` where TensorFlow is installed.
        callbacks: Further Keras callbacks.
        progress: Show a progress bar.

    Returns:
        The history has a row per epoch: means of `reward`, of the `length` of the captions drawn,
        the `entropy` of a word in nats (estimated by their log probabilities), the share of
        `distinct` ones, of those that were `cut` off and of those that stop at a word at which
        few captions of people do (`bad_endings`), the variance of the advantages (`variance`),
        and `val_score`.

    Raises:
        DataError: if the vocabulary is not the decoder's, rewards are no numbers, or the folder's
            checkpoint is of another network.
    """
    batches = CaptionBatches(
        train.features,
        caption_tokens(train.references, vocabulary, decoder.max_length),
        recipe.batch_size,
        seed,
        drop_remainder=True,
        mirrored=train.mirrored,
    )
    generator = Generator(decoder, vocabulary, batches.batch_size)
    stops = [i for i, word in enumerate(vocabulary.words) if word in BAD_ENDINGS]
    critic = Critic(generator, reward, recipe)
    model = Rewarded(decoder)
    model.compile(
        recipe.make_optimizer(len(batches) * recipe.epochs), jit_compile=settings.jit_compile
    )
    model.build(None)
    generated = Generated(generator, dev.features, dev.references, score, folder)
    supervision = Supervision(
        model, recipe.epochs, len(batches), generated, recipe.patience, folder, tensorboard,
        callbacks, progress,
    )  # fmt: skip
    # Not `model.fit`: it fetches batches ahead, and these have to be drawn with today's weights.
    told = keras.callbacks.CallbackList(supervision.callbacks, model=model)
    model.stop_training = supervision.finished
    told.on_train_begin()
    with forget_gradients():
        for epoch in range(supervision.epoch, recipe.epochs):
            if model.stop_training:
                break
            told.on_epoch_begin(epoch)
            batches.start_epoch(epoch)
            rows = []
            for i in range(len(batches)):
                told.on_train_batch_begin(i)
                drawing, hiding = np.random.SeedSequence([seed, epoch, i]).generate_state(2)
                features = hide_regions(batches[i][0]["features"], recipe.region_dropout, hiding)
                drawn = critic(features, batches.indices(i), seed=int(drawing))
                inputs = {"features": features, "tokens": drawn["tokens"]}
                loss = model.train_on_batch(inputs, drawn["advantages"].astype("float32"))
                rows.append(_told_of(drawn, stops))
                told.on_train_batch_end(i, {**rows[-1], "loss": loss})
            logs = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            told.on_epoch_end(epoch, logs)
    told.on_train_end()
    return supervision.result()


def _told_of(drawn: dict, stops: Sequence[int]) -> dict[str, float]:
    """What a step's captions were like; `stops` are the numbers of the words not to end with."""
    flat = drawn["tokens"][..., 1:].reshape(-1, drawn["tokens"].shape[-1] - 1)
    words = (flat != PAD).sum()
    said = (flat != PAD) & (flat != END)
    last = flat[np.arange(len(flat)), np.maximum(said.sum(axis=-1) - 1, 0)]
    return {
        "reward": drawn["rewards"].mean(),
        "length": words / len(flat),
        "entropy": -drawn["log_p"].sum() / words,
        "distinct": len(np.unique(flat, axis=0)) / len(flat),
        "variance": drawn["advantages"].var(),
        "cut": 1 - (flat == END).any(axis=-1).mean(),
        "bad_endings": (~said.any(axis=-1) | np.isin(last, stops)).mean(),
    }
