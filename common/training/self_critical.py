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
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from common.data.vocabulary import BAD_ENDINGS, END, PAD, START, Vocabulary
from common.errors import DataError
from common.models.captioning import Decoder
from common.models.captioning.decoding import possible_words
from common.training.backend import DeviceSettings, forget_gradients
from common.training.batches import CaptionBatches
from common.training.caption_task import CaptionedFeatures, CaptionTask
from common.training.features import require_backbone
from common.training.generation import DECODING, Generated, Generator
from common.training.loop import FitResult, Supervision, one_training
from common.training.recipes import RewardRecipe
from common.training.runs import file_hashes, fingerprint
from common.training.store import read_captioner, read_description

# Captions (lists of words), and the number of the training image that each describes, to rewards.
Reward = Callable[[Sequence[Sequence[str]], np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class SelfCritical:
    """A trained captioner goes on by a reward: what `common.training.experiment.train` trains.

    Attributes:
        start: Folder of the run to start from, or of released weights.
        task: Data and features, as that run had them.
        reward: Of captions and the numbers of their training images. Its `weights` by score, if it
            has them, make a run of it what it is.
        score: Of captions of dev images and their references, after each epoch.
    """

    start: Path
    task: CaptionTask
    reward: Reward
    score: Callable

    def describe(self, recipe: RewardRecipe) -> dict:
        """What makes a run of it what it is."""
        return {
            **self.task.describe_run(read_description(self.start)["decoder"]),
            "reward": getattr(self.reward, "weights", None),
            "start": self.start.name,
            "start_weights": fingerprint(file_hashes(self.start)),
        }

    def build(self, recipe: RewardRecipe, seed: int = 0) -> Decoder:
        """The decoder to start from, in the precision of now.

        Raises:
            DataError: if vocabulary or features are not those of the run to start from.
        """
        network, vocabulary = read_captioner(self.start, keras.config.dtype_policy().name)
        if vocabulary.words != self.task.vocabulary.words:
            raise DataError(
                f"The run in {self.start} has a vocabulary of {len(vocabulary)} words, this task "
                f"another one of {len(self.task.vocabulary)}: its numbers would mean other words. "
                "Use the data set and min_count of that run, or train a captioner on this task "
                "first."
            )
        now, then = self.task.backbone, read_description(self.start)["backbone"]
        require_backbone((now["name"], now["hash"]), (then["name"], then["hash"]))
        return network

    def fit(self, network, recipe, settings, **options) -> FitResult:
        """See `fit_reward`."""
        task = self.task
        task.keep_vocabulary(options.get("folder"))
        train, dev = task.features["train"], task.features["dev"]
        return fit_reward(
            *(network, task.vocabulary, train, dev, self.reward, recipe, settings),
            score=self.score,
            **options,
        )

    def outcome(self, history: pd.DataFrame) -> dict:
        """What a record tells of a training before anything is judged."""
        return {"metrics": {}, "decoding": DECODING}


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


def seen_regions(images: int, regions: int, share: float, seed: int) -> np.ndarray | None:
    """Which regions are seen, bool `(images, regions)`: about this share is not; `None` for all."""
    if not share:
        return None
    return np.random.default_rng(seed).random((images, regions)) >= share


class Rewarded(keras.Model):
    """A decoder as it is trained by rewards: captions that it drew, weighted by their advantages.

    1. `loss = - mean over captions of advantage * sum over its words of log p(word)`.

    `<end>` is one of the words: how to end is learned, too. Dropout is off, and words that are
    never drawn have no probability: so the captions are of the very distribution that is
    differentiated. What noise there is against overfitting lies in the image, `seen_regions`:
    the inputs have the mask that the captions were drawn with, see `learned_from`.
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
        logits = self.decoder(
            inputs["features"],
            inputs["tokens"][..., :-1],
            training=False,
            region_mask=inputs.get("region_mask"),
        )
        log_p = ops.log_softmax(possible_words(logits), axis=-1)
        words = inputs["tokens"][..., 1:]
        chosen = ops.take_along_axis(log_p, words[..., None], axis=-1)[..., 0]
        return ops.sum(ops.where(words != PAD, chosen, 0.0), axis=-1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return -ops.mean(ops.multiply(y, y_pred))


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

    def __call__(
        self,
        features: np.ndarray,
        images: np.ndarray,
        seed: int,
        region_mask: np.ndarray | None = None,
    ) -> dict:
        """Tokens of captions that were drawn, with `<start>`, their rewards and advantages.

        Args:
            features: `(B, N, channels)`.
            images: Their numbers, `(B,)`.
            seed: Of the drawing.
            region_mask: Bool `(B, N)`, which regions are seen; `None` for all.

        Returns:
            `tokens` int32 `(B, K, T)`, `rewards` and `advantages` `(B, K)`, `log_p`, the log
            probabilities of the captions, `(B, K)`, and `region_mask` as it was given.

        Raises:
            DataError: for rewards that are not one finite number per caption.
        """
        count = self.recipe.captions
        seen = {"region_mask": region_mask}
        tokens, log_p = self.generator.tokens(features, "sample", captions=count, seed=seed, **seen)
        rewards = self.rewards(tokens, images)
        greedy = None
        if self.recipe.baseline == "greedy":
            greedy = self.rewards(self.generator.tokens(features, **seen)[0], images)[:, 0]
        found = advantages(rewards, self.recipe.baseline, greedy)
        tokens = np.pad(tokens, ((0, 0), (0, 0), (1, 0)), constant_values=START)
        drawn = {"tokens": tokens, "rewards": rewards, "advantages": found, "log_p": log_p}
        return {**drawn, **seen}

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


def learned_from(features: np.ndarray, drawn: dict) -> dict:
    """The inputs of `Rewarded`: features, and captions as a `Critic` has `drawn` them."""
    inputs = {"features": features, "tokens": drawn["tokens"]}
    if drawn["region_mask"] is not None:
        inputs["region_mask"] = drawn["region_mask"]
    return inputs


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
        inputs = learned_from(features, drawn)
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
            images in `train`; larger is better.
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
        np.zeros((len(train), 1, 1), "int32"),  # the captions are the decoder's own
        recipe.batch_size,
        seed,
        drop_remainder=True,
        mirrored=train.mirrored,
    )
    generator = Generator(decoder, vocabulary, batches.batch_size)
    bad_endings = [i for i, word in enumerate(vocabulary.words) if word in BAD_ENDINGS]
    critic = Critic(generator, reward, recipe)
    model = Rewarded(decoder)
    model.compile(
        recipe.make_optimizer(len(batches) * recipe.epochs), jit_compile=settings.jit_compile
    )
    model.build(None)
    supervision = Supervision(
        model,
        batches,
        recipe.epochs,
        seed,
        monitor="val_score",
        patience=recipe.patience,
        first=[Generated(generator, dev, score, folder)],
        callbacks=callbacks,
        folder=folder,
        tensorboard=tensorboard,
        progress=progress,
        name=decoder.name,
    )
    # Not `model.fit`: it fetches batches ahead, and these have to be drawn with today's weights.
    watching = keras.callbacks.CallbackList(supervision.callbacks, model=model)
    model.stop_training = supervision.finished
    watching.on_train_begin()
    with supervision.ending_bar(), forget_gradients():
        for epoch in range(supervision.epoch, recipe.epochs):
            if model.stop_training:
                break
            watching.on_epoch_begin(epoch)
            rows = []
            for i in range(len(batches)):
                watching.on_train_batch_begin(i)
                drawing, hiding = np.random.SeedSequence([seed, epoch, i]).generate_state(2)
                features = batches[i][0]["features"]
                mask = seen_regions(*features.shape[:2], recipe.region_dropout, hiding)
                drawn = critic(features, batches.indices(i), int(drawing), mask)
                inputs = learned_from(features, drawn)
                loss = model.train_on_batch(inputs, drawn["advantages"].astype("float32"))
                rows.append(step_statistics(drawn, bad_endings))
                watching.on_train_batch_end(i, {**rows[-1], "loss": loss})
            logs = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            watching.on_epoch_end(epoch, logs)
    watching.on_train_end()
    return supervision.result()


def step_statistics(drawn: dict, bad_endings: Sequence[int]) -> dict[str, float]:
    """What a step's captions were like; `bad_endings` are the numbers of words not to end with."""
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
        "bad_endings": (~said.any(axis=-1) | np.isin(last, bad_endings)).mean(),
    }
