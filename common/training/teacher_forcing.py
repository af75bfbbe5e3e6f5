"""Training of captioners by teacher forcing, judged on captions that they write themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd
from keras import ops

from common.data.vocabulary import IMPOSSIBLE, PAD, Vocabulary
from common.data.word_vectors import WordVectors
from common.errors import ConfigError
from common.models.captioning import Decoder
from common.training.backend import DeviceSettings
from common.training.batches import CaptionBatches
from common.training.callbacks import kept_epoch
from common.training.caption_task import CaptionedFeatures, CaptionTask
from common.training.experiment import own_label, run_config, run_label, train
from common.training.generation import (
    DECODING,
    Generated,
    Generator,
    caption_rows,
    caption_tokens,
)
from common.training.loop import FitResult, Supervision, one_training
from common.training.recipes import (
    CaptionRecipe,
    caption_recipe,
    captioner_settings,
    decoder_arguments,
)
from common.training.runs import Run
from common.training.store import CAPTIONING


@dataclass(frozen=True, eq=False)
class TeacherForcing:
    """A decoder learns from people's captions: what `common.training.experiment.train` trains.

    Attributes:
        name: Of the decoder, one of `common.models.captioning.DECODERS`.
        task: Data and features.
        score: Of captions of dev images and their references, after each epoch, such as
            `common.evaluation.captioners.bleu_4`; with it and a run the training ends with the
            best epoch, else with the last.
        arguments: Of the decoder; `None` for those of `decoder_arguments`.
        vectors: Word vectors to begin with, see `embedding_vectors`; `None` for random numbers.
    """

    name: str
    task: CaptionTask
    score: Callable | None = None
    arguments: dict | None = None
    vectors: WordVectors | None = None

    def describe(self, recipe: CaptionRecipe) -> dict:
        """What makes a run of it what it is."""
        size = {"vector_dim": self.vectors.vectors.shape[1]} if self.vectors else {}
        return self.task.describe_run({"name": self.name, **self._arguments(), **size})

    def _arguments(self) -> dict:
        if self.arguments is not None:
            return self.arguments
        return decoder_arguments(self.name, self.task.dataset)

    def build(self, recipe: CaptionRecipe, seed: int = 0) -> Decoder:
        """The decoder, untrained."""
        return self.task.build(self.name, seed, self.vectors, **self._arguments())

    def fit(self, network, recipe, settings, **options) -> FitResult:
        """See `fit_captioner`."""
        task = self.task
        task.keep_vocabulary(options.get("folder"))
        train, dev = task.features["train"], task.features["dev"]
        return fit_captioner(
            network, task.vocabulary, train, dev, recipe, settings, score=self.score, **options
        )

    def outcome(self, history: pd.DataFrame) -> dict:
        """What a record tells of a training before anything is judged."""
        kept = kept_epoch(history["val_score"]) if "val_score" in history else -1
        metrics = {"val_loss": float(history["val_loss"].iloc[kept])}
        return {"metrics": metrics, "decoding": DECODING}


def word_losses(targets, logits, label_smoothing: float = 0.0):
    """Cross-entropy of each word, 0 for `<pad>`.

    1. `l = -(1 - s) log p(target) - s * mean of log p over all words that a caption may have`:
       `<end>` is one of them, `IMPOSSIBLE` ones are not.

    Args:
        targets: int32 `(..., T)`.
        logits: `(..., T, vocabulary)`.
        label_smoothing: The share `s`.

    Returns:
        Losses float32 `(..., T)`, and which words count, float32 `(..., T)`.
    """
    logits = ops.cast(logits, "float32")
    norm = ops.logsumexp(logits, axis=-1)
    target = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    losses = norm - (1 - label_smoothing) * target
    if label_smoothing:
        possible = ops.sum(logits, axis=-1) - sum(logits[..., word] for word in IMPOSSIBLE)
        losses = losses - label_smoothing * possible / (logits.shape[-1] - len(IMPOSSIBLE))
    counted = ops.cast(targets != PAD, "float32")
    return losses * counted, counted


def doubly_stochastic_penalty(attention, counted):
    """How unevenly a caption looks at the image: 0 if every region gets the same in all.

    1. `s_n = sum over the words of a_tn * N / words`, with mean 1 over the `N` regions.
    2. `penalty = mean over n of (1 - s_n)^2`, for each caption; then the mean over captions.

    The "doubly stochastic" regulariser of Xu et al. (2015), in a form that does not depend on the
    caption's length. Hidden regions get nothing and add 1 each; least is still what gives the
    others the same.

    Args:
        attention: `(..., T, N)`.
        counted: Which words count, `(..., T)`.
    """
    words = ops.sum(counted, axis=-1)
    looked = ops.sum(attention * counted[..., None], axis=-2)
    looked = looked * attention.shape[-1] / ops.maximum(words, 1.0)[..., None]
    penalty = ops.mean(ops.square(1.0 - looked), axis=-1)
    there = ops.cast(words > 0, "float32")
    return ops.sum(penalty * there) / ops.maximum(ops.sum(there), 1.0)


class TeacherForced(keras.Model):
    """A decoder as `fit` trains it: each word predicted from the true words before it.

    Takes the dict of `CaptionBatches`. Save `decoder`, never this wrapper.

    Args:
        decoder: The decoder.
        label_smoothing, attention_penalty: See `CaptionRecipe`; in training only.
    """

    def __init__(self, decoder: Decoder, label_smoothing=0.0, attention_penalty=0.0):
        super().__init__(name="teacher_forced")
        self.decoder = decoder
        self.label_smoothing = label_smoothing
        self.attention_penalty = attention_penalty

    def build(self, input_shape):
        # The decoder is built already.
        self.built = True

    def call(self, inputs, training=False):
        given = inputs["features"], inputs["tokens"][..., :-1]
        if not self.attention_penalty:
            return {"logits": self.decoder(*given, training=training)}
        logits, attention = self.decoder(*given, training=training, return_attention=True)
        outputs = {"logits": logits}
        return outputs if attention is None else {**outputs, "attention": attention}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        smoothing = self.label_smoothing if training else 0.0
        losses, counted = word_losses(y[..., 1:], y_pred["logits"], smoothing)
        loss = ops.sum(losses) / ops.maximum(ops.sum(counted), 1.0)
        if training and self.attention_penalty and "attention" in y_pred:
            # Of the last block, the mean of its heads: `(B, K, T, N)`.
            looked = ops.mean(y_pred["attention"][..., -1, :, :], axis=-2)
            penalty = doubly_stochastic_penalty(looked, counted)
            loss = loss + self.attention_penalty * penalty
        return loss


def standard_run(name: str, task: CaptionTask, profile: str, seed: int, score: Callable) -> Run:
    """The run of lesson 5 with its own parameters: found again, or trained now.

    Args:
        name: Of the decoder.
        task: Data and features.
        profile: Of the recipe.
        seed: Of everything random.
        score: See `TeacherForcing`.
    """
    dataset, settings = task.dataset, captioner_settings(task.dataset)
    recipe = caption_recipe(profile, dataset, len(task.data["train"]))
    learns = TeacherForcing(name, task, score)
    options = {"phase": CAPTIONING, "dataset": dataset, "profile": profile, "seed": seed}
    label = own_label(dataset, task)
    label = run_label(label, profile, task.backbone["name"], name, seed=seed)
    run = Run.labelled(label, run_config(learns, recipe, settings, **options))
    return train(learns, recipe, settings, seed=seed, run=run).run


@one_training
def fit_captioner(
    decoder: Decoder,
    vocabulary: Vocabulary,
    train: CaptionedFeatures,
    dev: CaptionedFeatures,
    recipe: CaptionRecipe,
    settings: DeviceSettings,
    *,
    score: Callable | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    tensorboard: bool = True,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    progress: bool = True,
) -> FitResult:
    """Trains `decoder` in place by teacher forcing; goes on where a killed training stopped.

    Order, dropout and mirroring of an epoch follow from `seed` and the epoch.

    Args:
        decoder: Built for the features, under `device_scope(settings)`.
        vocabulary: Its words.
        train: Training images.
        dev: Scored after each epoch: the loss, and `score` of captions written greedily.
        recipe: The hyper-parameters.
        settings: From `device_settings`; call this inside `device_scope(settings)`.
        score: Of captions (lists of words) and references, such as BLEU-4; larger is better. With
            it and a folder the training ends with the best epoch, else with the last.
        seed: Of the order, dropout and mirroring.
        folder: Where checkpoints and logs are kept; without one nothing is.
        tensorboard: Write TensorBoard logs into `folder` where TensorFlow is installed.
        callbacks: Further Keras callbacks.
        progress: Show a progress bar.

    Raises:
        ConfigError: for patience without a score.
        DataError: if the vocabulary is not the decoder's, or the folder's checkpoint is of another
            network.
    """
    if recipe.patience and score is None:
        raise ConfigError("patience needs a score to wait for.")
    generator = Generator(decoder, vocabulary, min(recipe.batch_size, len(dev)))
    length = decoder.max_length

    def batches_of(part: CaptionedFeatures, **options) -> CaptionBatches:
        owners, rows = caption_rows(part.references)
        tokens = caption_tokens(rows, vocabulary, length)
        return CaptionBatches(part.features, tokens, recipe.batch_size, owners=owners, **options)

    mirrored = train.mirrored if recipe.mirrored else None
    batches = batches_of(train, seed=seed, drop_remainder=True, mirrored=mirrored)
    scored = batches_of(dev)
    model = TeacherForced(decoder, recipe.label_smoothing, recipe.attention_penalty)
    optimizer = recipe.make_optimizer(len(batches) * recipe.epochs)
    model.compile(optimizer, jit_compile=settings.jit_compile)
    model.build(None)

    supervision = Supervision(
        model,
        batches,
        recipe.epochs,
        seed,
        monitor="val_score" if score else None,
        patience=recipe.patience,
        first=[Generated(generator, dev, score, folder)] if score else (),
        callbacks=callbacks,
        folder=folder,
        tensorboard=tensorboard,
        progress=progress,
        name=decoder.name,
    )
    if not supervision.finished:
        supervision.fit(scored)
    return supervision.result()
