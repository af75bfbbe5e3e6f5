"""Training of captioners by teacher forcing, judged on captions that they write themselves."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common.data.vocabulary import PAD, Vocabulary
from common.errors import ConfigError, DataError
from common.files import write_json
from common.models.decoders import Decoder
from common.training.backend import DeviceSettings, forget_gradients
from common.training.batches import CaptionBatches
from common.training.callbacks import Checkpoint, FiniteLoss, Progress, SeedEpochs
from common.training.fit import FitResult, one_training, tensorboard_callbacks
from common.training.generation import Generator, caption_tokens
from common.training.schedules import OneCycle


@dataclass(frozen=True)
class CaptionRecipe:
    """How a captioner is trained.

    Attributes:
        epochs: Passes over the training images; each pass has all captions of each image.
        batch_size: Images per step.
        learning_rate: Peak of AdamW's one-cycle schedule.
        weight_decay: Decoupled; not on biases, norms and embeddings.
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Largest length of the gradient of all weights together; 0 for no limit.
        label_smoothing: Share of each target spread over all words.
        attention_penalty: Weight of the doubly stochastic penalty, see `looked_at_penalty`.
        patience: Epochs in a row without a better dev score after which training stops; 0: never.
        mirrored: Draw each image mirrored half of the time, where such features are given.
    """

    epochs: int
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
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                "epochs and batch_size must be at least 1. "
                f"Received: epochs={self.epochs}, batch_size={self.batch_size}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing must lie in [0, 1). Received: {self.label_smoothing}"
            )

    def to_dict(self) -> dict:
        """All values, as records keep them."""
        return asdict(self)

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


@dataclass(frozen=True, eq=False)
class CaptionedFeatures:
    """Features of images with the captions of each.

    Args:
        features: float16 `(images, N, channels)`; may be a memory map.
        references: The words of every caption, by image.
        mirrored: Features of the mirrored images, or `None`.

    Raises:
        DataError: if the numbers of images differ.
    """

    features: np.ndarray
    references: list[list[list[str]]]
    mirrored: np.ndarray | None = None

    def __post_init__(self):
        if len(self.features) != len(self.references):
            raise DataError(
                f"Features of {len(self.features)} images, but captions of "
                f"{len(self.references)}. Extract the features of the same images."
            )

    def __len__(self) -> int:
        return len(self.references)

    def subset(self, indices) -> "CaptionedFeatures":
        """The images at `indices`, in that order."""
        return replace(
            self,
            features=self.features[indices],
            references=[self.references[i] for i in indices],
            mirrored=None if self.mirrored is None else self.mirrored[indices],
        )


def word_losses(targets, logits, label_smoothing: float = 0.0):
    """Cross-entropy of each word, 0 for `<pad>`.

    1. `l = -(1 - s) log p(target) - s * mean of log p over all words`.

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
        losses = losses - label_smoothing * ops.mean(logits, axis=-1)
    counted = ops.cast(targets != PAD, "float32")
    return losses * counted, counted


def looked_at_penalty(attention, counted):
    """How unevenly a caption looks at the image: 0 if every region gets the same in all.

    1. `s_n = sum over the words of a_tn * N / words`, with mean 1 over the `N` regions.
    2. `penalty = mean over n of (1 - s_n)^2`, for each caption; then the mean over captions.

    The "doubly stochastic" regulariser of Xu et al. (2015), in a form that does not depend on the
    caption's length.

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
        given = inputs["tokens"][..., :-1]
        logits, attention = self.decoder(
            inputs["features"], given, training=training, return_attention=True
        )
        outputs = {"logits": logits}
        return outputs if attention is None else {**outputs, "attention": attention}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        smoothing = self.label_smoothing if training else 0.0
        losses, counted = word_losses(y[..., 1:], y_pred["logits"], smoothing)
        loss = ops.sum(losses) / ops.maximum(ops.sum(counted), 1.0)
        if training and self.attention_penalty and "attention" in y_pred:
            penalty = looked_at_penalty(y_pred["attention"], counted)
            loss = loss + self.attention_penalty * penalty
        return loss


class Generated(keras.callbacks.Callback):
    """After each epoch: captions of the dev images, greedily; their score as `val_score`.

    Under teacher forcing a decoder never sees its own mistakes, so its loss tells little of the
    captions that it writes. Put it before the callbacks that keep what it finds.

    Args:
        generator: Of the decoder in training.
        features: Of the dev images.
        references: Their captions.
        score: Of captions and references; larger is better.
        folder: Where `told.json` is kept: the caption of the first image, epoch by epoch.
    """

    def __init__(self, generator: Generator, features, references, score: Callable, folder=None):
        super().__init__()
        self.generator = generator
        self.features = features
        self.references = references
        self.score = score
        self.folder = None if folder is None else Path(folder)
        self.told: dict[str, str] = {}
        self._path = None if folder is None else Path(folder) / "told.json"

    def restore(self, epochs: int) -> None:
        """Takes up what was told in the epochs that are done."""
        from common.files import read_json

        if self._path is not None and self._path.exists():
            told = read_json(self._path, dict)
            done = set(map(str, range(1, epochs + 1)))
            self.told = {key: text for key, text in told.items() if key in done}

    def on_epoch_end(self, epoch, logs=None):
        captions = self.generator.captions(self.features)
        logs["val_score"] = float(self.score(captions, self.references))
        self.told[str(epoch + 1)] = " ".join(captions[0])
        if self._path is not None:
            write_json(self._path, self.told)


class Patience(keras.callbacks.Callback):
    """Stops a training whose dev score has not risen for so many epochs, also across a resume."""

    def __init__(self, checkpoint: Checkpoint, epochs: int):
        super().__init__()
        self.checkpoint = checkpoint
        self.epochs = epochs

    def exhausted(self) -> bool:
        """Whether it has been too long since the best epoch."""
        best, epoch = self.checkpoint.state["best"], self.checkpoint.state["epoch"]
        return bool(self.epochs and best and epoch - best["epoch"] >= self.epochs)

    def on_epoch_end(self, epoch, logs=None):
        if self.exhausted():
            self.model.stop_training = True


class Supervision:
    """What every training of a captioner has beside its steps, however it learns.

    Captions of the dev images after each epoch, checkpoints, patience, logs, a progress bar: all of
    it as callbacks. Takes up a training that was killed.

    Args:
        model: Built and compiled.
        epochs, steps: Of the whole training, and in each epoch.
        generated: Captions of the dev images, or `None`; by their score an epoch is best.
        patience: See `Patience`.
        folder, tensorboard, callbacks, progress: As for `fit_captioner`.

    Attributes:
        epoch: The first epoch that is to be trained.
        callbacks: In their order.
    """

    def __init__(
        self, model, epochs, steps, generated, patience, folder, tensorboard, callbacks, progress
    ):
        self.model = model
        self.epochs = epochs
        self.checkpoint = Checkpoint(folder, monitor="val_score" if generated else None)
        self.epoch = self.checkpoint.restore(model)
        self.patience = Patience(self.checkpoint, patience)
        self.callbacks = [self.checkpoint, self.patience, *callbacks]
        if generated:
            generated.restore(self.epoch)
            self.callbacks.insert(0, generated)
        self.callbacks.insert(0, FiniteLoss(steps))
        if folder is not None and tensorboard:
            self.callbacks += tensorboard_callbacks(folder)
        if progress:
            self.callbacks.append(Progress(epochs, steps, model.decoder.name))

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        return self.epoch >= self.epochs or self.patience.exhausted()

    def result(self) -> FitResult:
        """History and seconds; the model gets the weights of the best epoch, if there is one."""
        self.checkpoint.load_best(self.model)
        return FitResult(self.checkpoint.history(), self.checkpoint.state["seconds"])


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
    batches = CaptionBatches(
        train.features,
        caption_tokens(train.references, vocabulary, length),
        recipe.batch_size,
        seed,
        drop_remainder=True,
        mirrored=train.mirrored if recipe.mirrored else None,
    )
    scored = CaptionBatches(
        dev.features, caption_tokens(dev.references, vocabulary, length), recipe.batch_size
    )
    model = TeacherForced(decoder, recipe.label_smoothing, recipe.attention_penalty)
    optimizer = recipe.make_optimizer(len(batches) * recipe.epochs)
    model.compile(optimizer, jit_compile=settings.jit_compile)
    model.build(None)

    generated = None
    if score:
        generated = Generated(generator, dev.features, dev.references, score, folder)
    supervision = Supervision(
        model, recipe.epochs, len(batches), generated, recipe.patience, folder, tensorboard,
        callbacks, progress,
    )  # fmt: skip
    batches.start_epoch(supervision.epoch)
    if not supervision.finished:
        with forget_gradients():
            model.fit(
                batches.for_fit(),
                validation_data=scored.for_fit(),
                initial_epoch=supervision.epoch,
                epochs=recipe.epochs,
                shuffle=False,  # the batches are shuffled, from the seed
                verbose=0,
                callbacks=[SeedEpochs(batches, seed), *supervision.callbacks],
            )
    return supervision.result()
