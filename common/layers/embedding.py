"""Words as vectors, and vectors as scores of words."""

import keras
import numpy as np
from keras import ops

from common.layers.linear import as_float, linear, refuse_symbolic

# What is learned of an embedding that begins with given vectors.
VECTOR_MODES = ("frozen", "projected", "tuned")


@keras.saving.register_keras_serializable("course")
class TiedEmbedding(keras.layers.Layer):
    """One matrix for reading words and for predicting them.

    1. Reading: `x = sqrt(dim) * E[token]`, `(..., dim)`; the factor makes vectors of length near
       `sqrt(dim)` of rows of length near 1, which as output weights give moderate logits.
    2. Predicting: `logits = x E^T + b`, `(..., vocabulary)`, in float32.
    3. With vectors `G` of words from elsewhere, `(vocabulary, vector_dim)`: `E = G M`, with a map
       `M`, `(vector_dim, dim)`, that starts as one which keeps lengths and angles as far as the
       dimensions allow (orthogonal rows or columns).

    Half of the weights are saved, and a word that is seldom predicted learns from being read.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017).
    `keras.layers.ReversibleEmbedding` has neither the factor nor the bias.

    Args:
        vocabulary_size: Number of words.
        dim: Size of a word's vector.
        vector_dim: Size of the vectors from elsewhere, to be set with `set_vectors`; `None` for
            an embedding that is learned from random numbers.
        vector_mode: What is learned of them: "frozen", neither `G` nor `M`; "projected", `M`;
            "tuned", both.

    Call arguments:
        inputs: Tokens, integers of any shape; with `reverse`, vectors `(..., dim)`.
        reverse: Whether to predict instead of reading.

    Returns:
        `(..., dim)`; with `reverse` scores of all words, float32 `(..., vocabulary)`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        dim: int,
        vector_dim: int | None = None,
        vector_mode: str = "tuned",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if vocabulary_size < 1 or dim < 1 or (vector_dim is not None and vector_dim < 1):
            raise ValueError(
                "`vocabulary_size`, `dim` and `vector_dim` must be at least 1. Received: "
                f"vocabulary_size={vocabulary_size}, dim={dim}, vector_dim={vector_dim}"
            )
        if vector_mode not in VECTOR_MODES:
            raise ValueError(
                f"`vector_mode` must be one of {VECTOR_MODES}. Received: {vector_mode!r}"
            )
        self.vocabulary_size = vocabulary_size
        self.dim = dim
        self.vector_dim = vector_dim
        self.vector_mode = vector_mode

    def build(self, input_shape=None):
        size = self.vector_dim or self.dim
        given = self.vector_dim is not None
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary_size, size),
            initializer=keras.initializers.RandomNormal(stddev=size**-0.5),
            trainable=not given or self.vector_mode == "tuned",
        )
        if given:
            self.map = self.add_weight(
                name="map",
                shape=(size, self.dim),
                initializer="orthogonal",
                trainable=self.vector_mode != "frozen",
            )
        self.bias = self.add_weight(name="bias", shape=(self.vocabulary_size,), initializer="zeros")

    def set_vectors(self, vectors) -> None:
        """Begins with these vectors `(vocabulary, vector_dim)`, centred, with a mean length of 1.

        What all words have in common tells none from another: of vectors that were learned from
        text it is often the greater part. Mu and Viswanath, "All-but-the-Top" (2018).

        Raises:
            ValueError: if their shape is another one, or the layer was made without `vector_dim`.
        """
        vectors = np.asarray(vectors)
        if self.vector_dim is None or tuple(vectors.shape) != tuple(self.embeddings.shape):
            raise ValueError(
                f"Wanted vectors of shape ({self.vocabulary_size}, {self.vector_dim}). Received: "
                f"{tuple(vectors.shape)}"
            )
        centred = vectors - vectors.mean(axis=0)
        self.embeddings.assign(centred / ((centred**2).sum(axis=-1) ** 0.5).mean())

    def _matrix(self):
        if self.vector_dim is None:
            return self.embeddings
        return ops.matmul(self.embeddings, self.map)

    def call(self, inputs, reverse=False):
        if reverse:
            return self.logits(inputs)
        vectors = ops.take(self.embeddings, ops.cast(inputs, "int32"), axis=0)
        if self.vector_dim is not None:
            vectors = ops.matmul(vectors, self.map)
        return ops.cast(vectors, self.compute_dtype) * self.dim**0.5

    def logits(self, x):
        """`call` with `reverse`, for models that are classes."""
        refuse_symbolic(self, "logits", "Call the layer with `reverse=True`.", x)
        x = ops.cast(x, self.compute_dtype)
        scores = linear(x, ops.transpose(self._matrix()))
        return ops.cast(scores, "float32") + ops.cast(self.bias, "float32")

    def compute_output_shape(self, input_shape, reverse=False):
        return (*input_shape[:-1], self.vocabulary_size) if reverse else (*input_shape, self.dim)

    def compute_output_spec(self, inputs, reverse=False):
        shape = self.compute_output_shape(inputs.shape, reverse)
        return keras.KerasTensor(shape, "float32" if reverse else self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
            "vector_dim": self.vector_dim,
            "vector_mode": self.vector_mode,
        }


@keras.saving.register_keras_serializable("course")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector per position: attention alone sees a set, not a sequence.

    1. `y_t = x_t + P[t + start]`, `(batch, time, dim)`. `P` starts at a standard deviation of 0.02,
       as BERT's does: words, which have 1 (`TiedEmbedding`), are read almost without an order until
       one is learned.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (2017).

    Args:
        length: The most positions that there can be.

    Call arguments:
        inputs: `(..., time, dim)`, with `time` of at most `length`.
        start: Position of the first, an int or a scalar tensor; `start + time` is at most `length`.

    Returns:
        A tensor of the same shape; of integers, in the compute dtype.
    """

    def __init__(self, length: int, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        if length < 1:
            raise ValueError(f"`length` must be at least 1. Received: length={length}")
        self.length = length

    def build(self, input_shape):
        self.positions = self.add_weight(
            name="positions",
            shape=(self.length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, inputs, start=0):
        if len(inputs.shape) < 2:
            raise ValueError(
                f"`inputs` must be (..., time, dim). Received: shape {tuple(inputs.shape)}"
            )
        time = inputs.shape[-2]
        first = _known(start)
        if first is not None and time is not None and not 0 <= first <= self.length - time:
            raise ValueError(
                f"{time} positions from {first} on, but `length` allows {self.length}. Shorten the "
                "sequences, or build the layer with a larger `length`."
            )
        inputs = as_float(inputs, self.compute_dtype)
        index = ops.arange(ops.shape(inputs)[-2]) + ops.cast(start, "int32")
        return inputs + ops.cast(ops.take(self.positions, index, axis=0), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "length": self.length}


def _known(number) -> int | None:
    """A number that is known before anything is computed, else `None`."""
    try:
        return int(number)
    except (TypeError, AttributeError, NotImplementedError, RuntimeError):  # within a graph
        return None
