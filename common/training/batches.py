"""Batches for `fit`: an order that only seed and epoch decide, and transforms of whole batches."""

import math

import keras
import numpy as np
from keras import ops

from common.data.corruptions import corrupt_some
from common.data.images import ImageData
from common.errors import ConfigError, DataError


class Batches(keras.utils.PyDataset):
    """Batches in an order that only seed and epoch decide; a subclass gives them as NumPy arrays.

    Args:
        count: Number of images.
        batch_size: Images per batch.
        seed: With the epoch it decides the order; `None` keeps the order of the data.
        drop_remainder: Leave out the last batch if it is not full; training does, so that every
            step costs and weighs the same.
    """

    def __init__(self, count, batch_size, seed=None, drop_remainder=False):
        super().__init__()
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.drop_remainder = drop_remainder
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of this epoch, the same whenever it is asked for.

        Call it before `fit`, too, which may fetch ahead before any callback can tell the epoch.
        """
        self.epoch = epoch
        if self.seed is None:
            self._order = np.arange(self.count)
        else:
            self._order = self._draw_order(np.random.default_rng([self.seed, epoch]))

    def _draw_order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.count)

    def __len__(self) -> int:
        count = self.count / self.batch_size
        return math.floor(count) if self.drop_remainder else math.ceil(count)

    def indices(self, i: int) -> np.ndarray:
        """Which images batch `i` has."""
        return self._order[i * self.batch_size : (i + 1) * self.batch_size]

    def for_fit(self):
        """What to hand to `model.fit`: on TensorFlow a `tf.data.Dataset`, elsewhere this object.

        Keras would make a data set of its own, with autotuning: its thread keeps the end of every
        epoch waiting until it next wakes (10 ms, 20 ms, 40 ms, ... at last a minute after the time
        before; seen with TensorFlow 2.20 and 2.21).
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        signature = keras.tree.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), self[0]
        )
        batches = tf.data.Dataset.from_generator(
            lambda: (self[i] for i in range(len(self))), output_signature=signature
        )
        batches = batches.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(2)
        options = tf.data.Options()
        options.autotune.enabled = False
        return batches.with_options(options)


class ImageBatches(Batches):
    """Batches of `uint8` images with what batch transforms need: labels, index and epoch.

    Each item is `(inputs, labels)`, with `inputs` a dict of `images` (B, H, W, 3) `uint8`,
    `labels` (B,), `index` (B,) (the image's number in the data set) and `epoch` (B,).

    Args:
        data: The images.
        batch_size: Images per batch.
        seed: With the epoch it decides the order; `None` keeps the order of the data.
        drop_remainder: Leave out the last batch if it is not full; training does, so that every
            step costs and weighs the same.
        balance: Every class equally often in each batch, or once more where the number of classes
            does not divide the batch. An epoch has as many batches as without: it repeats the
            images of a small class and leaves out some of a large one, others each time. Needs a
            seed.
        corruption: Share of the images that come compressed or noisy, others each time, see
            `corrupt_some`. Needs a seed.

    Raises:
        ConfigError: for `balance` or `corruption` without a seed.
        DataError: for `balance` where a class has no image.
    """

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        seed: int | None = None,
        drop_remainder: bool = False,
        balance: bool = False,
        corruption: float = 0.0,
    ):
        self.images = data.images
        self.labels = data.labels
        self.balance = balance
        self.corruption = corruption
        if (balance or corruption) and seed is None:
            raise ConfigError("Balance and corruption are drawn at random: they need a seed.")
        if balance:
            self.members = _members(data)
        super().__init__(len(data), batch_size, seed, drop_remainder)

    def _draw_order(self, rng):
        return self._balanced_order(rng) if self.balance else super()._draw_order(rng)

    def _balanced_order(self, rng: np.random.Generator) -> np.ndarray:
        count = len(self.labels)
        share = math.ceil(count / len(self.members))
        drawn = []
        for members in self.members:
            # Pass by pass: the images of a class come equally often, give or take one.
            passes = [rng.permutation(members) for _ in range(math.ceil(share / len(members)))]
            drawn.append(np.concatenate(passes)[:share])
        order = np.stack(drawn, axis=1).ravel()[:count]  # one of each class in turn
        # In random order within a batch, as without balance: `MixUp` relies on it.
        for start in range(0, count, self.batch_size):
            rng.shuffle(order[start : start + self.batch_size])
        return order

    def __getitem__(self, i: int):
        index = self.indices(i)
        images, labels = self.images[index], self.labels[index]
        if self.corruption:
            # From seed, epoch and batch: the same however often the batch is asked for.
            images = corrupt_some(
                images, self.corruption, np.random.default_rng([self.seed, self.epoch, i, 1])
            )
        inputs = {
            "images": images,
            "labels": labels,
            "index": index.astype("int32"),
            "epoch": np.full(len(index), self.epoch, "int32"),
        }
        return inputs, labels


class CaptionBatches(Batches):
    """Batches of image features with captions of each image.

    Each item is `(inputs, tokens)`, with `inputs` a dict of `features` (B, N, channels) and
    `tokens` (B, K, T), which are the targets, too.

    Args:
        features: `(images, N, channels)`, float16; may be a memory map.
        tokens: int32 `(rows, K, T)`; a row with fewer captions is filled up with `<pad>`.
        batch_size, seed, drop_remainder: See `Batches`.
        mirrored: Features of the same images mirrored: each time one of the two is drawn.
        owners: The number of each row's image, from `caption_rows`; `None` for a row per image.
    """

    def __init__(
        self,
        features: np.ndarray,
        tokens: np.ndarray,
        batch_size: int,
        seed: int | None = None,
        drop_remainder: bool = False,
        mirrored: np.ndarray | None = None,
        owners: np.ndarray | None = None,
    ):
        self.features = features
        self.mirrored = mirrored
        self.tokens = tokens
        self.owners = owners
        super().__init__(len(tokens), batch_size, seed, drop_remainder)

    def __getitem__(self, i: int):
        rows = self.indices(i)
        index = rows if self.owners is None else self.owners[rows]
        features = self.features[index]
        if self.mirrored is not None and self.seed is not None:
            # From seed, epoch and batch: the same however often the batch is asked for.
            rng = np.random.default_rng([self.seed, self.epoch, i, 1])
            turned = rng.random(len(index)) < 0.5
            features = np.where(turned[:, None, None], self.mirrored[index], features)
        tokens = self.tokens[rows]
        return {"features": features, "tokens": tokens}, tokens


def _members(data: ImageData) -> list[np.ndarray]:
    """The indices of each class's images."""
    members = [np.flatnonzero(data.labels == label) for label in range(len(data.classes))]
    missing = [name for name, found in zip(data.classes, members, strict=True) if not len(found)]
    if missing:
        raise DataError(
            f"{data.name} ({data.split}) has no image of {', '.join(missing)} to balance batches "
            "with. Use more images, or imbalance='none'."
        )
    return members


class BatchTransformed(keras.Model):
    """A network as `fit` trains it: transforms of the batch, one-hot targets, then the network.

    Takes the dict of `ImageBatches`. Its `call` returns `{"logits", "targets"}`, so that a
    transform may change labels along with images, on the accelerator, on any backend. The
    transforms act in training only. Save `network`, never this wrapper.

    Args:
        network: Takes raw `uint8` images, gives logits (B, classes).
        num_classes: Number of classes.
        label_smoothing: Share of each target spread evenly over all classes.
        transforms: Layers of `common.layers.batch_transforms`.
        loss: Of logits and targets, in training; `None` for cross-entropy, which validation is
            scored with whatever the network was trained on.
    """

    def __init__(self, network, num_classes, label_smoothing=0.0, transforms=(), loss=None):
        super().__init__(name="batch_transformed")
        self.network = network
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.transforms = list(transforms)
        self.cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.training_loss = loss or self.cross_entropy

    def build(self, input_shape):
        # The network is built already; the transforms have no shape to learn.
        self.built = True

    def call(self, inputs, training=False):
        images = inputs["images"]
        targets = ops.one_hot(inputs["labels"], self.num_classes, dtype="float32")
        if training:
            smoothing = self.label_smoothing
            targets = targets * (1 - smoothing) + smoothing / self.num_classes
            for transform in self.transforms:
                images, targets = transform(images, targets, inputs["index"], inputs["epoch"])
        return {"logits": self.network(images, training=training), "targets": targets}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # A `Loss`, since those know how to average over several devices.
        loss = self.training_loss if training else self.cross_entropy
        return loss(y_pred["targets"], y_pred["logits"], sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred["logits"], sample_weight)
