"""Words as vectors, and vectors as scores of words."""

import keras
from keras import ops

from common.layers.linear import linear


@keras.saving.register_keras_serializable("course")
class TiedEmbedding(keras.layers.Layer):
    """One matrix for reading words and for predicting them.

    1. Reading: `x = sqrt(dim) * E[token]`, `(..., dim)`; the factor makes vectors of length near
       `sqrt(dim)` of rows of length near 1, which as output weights give moderate logits.
    2. Predicting: `logits = x E^T + b`, `(..., vocabulary)`, in float32.

    Half of the weights are saved, and a word that is seldom predicted learns from being read.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017).

    Args:
        vocabulary_size: Number of words.
        dim: Size of a word's vector.

    Call arguments:
        tokens: int32 of any shape.

    Returns:
        `(..., dim)`.
    """

    def __init__(self, vocabulary_size: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        if vocabulary_size < 1 or dim < 1:
            raise ValueError(
                "`vocabulary_size` and `dim` must be at least 1. "
                f"Received: vocabulary_size={vocabulary_size}, dim={dim}"
            )
        self.vocabulary_size = vocabulary_size
        self.dim = dim

    def build(self, input_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary_size, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=self.dim**-0.5),
        )
        self.bias = self.add_weight(name="bias", shape=(self.vocabulary_size,), initializer="zeros")

    def call(self, tokens):
        vectors = ops.take(self.embeddings, ops.cast(tokens, "int32"), axis=0)
        return ops.cast(vectors, self.compute_dtype) * self.dim**0.5

    def logits(self, x):
        """Scores of all words, float32 `(..., vocabulary)`."""
        x = ops.cast(x, self.compute_dtype)
        scores = linear(x, ops.transpose(self.embeddings))
        return ops.cast(scores, "float32") + ops.cast(self.bias, "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.dim)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
        }


@keras.saving.register_keras_serializable("course")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector per position: attention alone sees a set, not a sequence.

    1. `y_t = x_t + P[t + start]`, `(batch, time, dim)`.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (2017).

    Args:
        length: The most positions that there can be.

    Call arguments:
        inputs: `(batch, time, dim)`, with `time` of at most `length`.
        start: Position of the first, an int or a scalar tensor.

    Returns:
        A tensor of the same shape.
    """

    def __init__(self, length: int, **kwargs):
        super().__init__(**kwargs)
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
        time = inputs.shape[1]
        if time > self.length:
            raise ValueError(
                f"{time} positions, but `length` allows {self.length}. Shorten the sequences, or "
                "build the layer with a larger `length`."
            )
        index = ops.arange(time) + start
        return inputs + ops.cast(ops.take(self.positions, index, axis=0), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "length": self.length}
