"""Rungs 1 to 3 of the ladder: recurrent decoders, the last one with attention to the image."""

from functools import partial

import keras
from keras import ops

from common.layers import BahdanauAttention, LSTMCell, SimpleRNNCell, masked_mean
from common.models.captioning.base import Decoder


class RecurrentDecoder(Decoder):
    """A recurrent network that is told of the image once, before the first word.

    1. Image: `v = mean of the regions`, `(B, width)`; first state `h_0 = tanh(W v + b)`.
    2. Each word: `h_t, state = cell(word_t, state)`, `(B * K, units)`.
    3. Logits: `E (W h_t + b)`, with the word vectors `E` again.

    All that it will ever know of the image has to pass through the state, which the words change
    at every step.

    `export` to LiteRT and ONNX wants the number of words fixed in `input_signature`, since neither
    converter knows the loop over an open one; a SavedModel takes any.

    Source: as in Vinyals et al., "Show and Tell" (2015), with the image as the first state.

    Args:
        units: Size of the state.
        **kwargs: Those of `Decoder`.
    """

    cell_class = None

    def __init__(self, vocabulary_size: int, units: int = 512, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        self.units = units
        self.cell = self._made(self.cell_class, units, name="cell")
        self.states = 2 if isinstance(self.cell.state_size, list) else 1
        self.first_state = self._made(
            keras.layers.Dense, units * self.states, "tanh", name="first_state"
        )
        self.output_words = self._made(keras.layers.Dense, self.width, name="output_words")

    def build_decoder(self, regions):
        self.cell.build((None, self.width))
        self.first_state.build((None, self.width))
        self.output_words.build((None, self.units))

    def initial_state(self, image, captions):
        seen = masked_mean(image["regions"], image.get("region_mask"))
        first = self.first_state(seen)
        first = ops.repeat(first, captions, axis=0)
        names = ("h", "c")[: self.states]
        return dict(zip(names, ops.split(first, self.states, axis=-1), strict=True))

    def _cell_step(self, projected, states):
        # By name: a loop on JAX gives a dict back in alphabetical order.
        names = ("h", "c")[: self.states]
        _, new = self.cell.step(projected, [states[name] for name in names])
        return dict(zip(names, new, strict=True))

    def decode(self, words, image, training):
        captions = ops.shape(words)[0] // ops.shape(image["regions"])[0]

        def one_word(states, projected):
            states = self._cell_step(projected, states)
            return states, (states["h"],)

        first = self.initial_state(image, captions)
        (outputs,) = _over_time(one_word, first, self.cell.project(words))
        return self._logits(outputs, training), None

    def decode_step(self, words, state):
        states = self._cell_step(self.cell.project(words), state["words"])
        return self._logits(states["h"]), states, None

    def _logits(self, h, training=False):
        h = self.drop_output(h, training=training)
        return self.embedding.logits(self.output_words(h))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("course")
class RNNDecoder(RecurrentDecoder):
    """Rung 1: `RecurrentDecoder` with the simple recurrent cell."""

    cell_class = SimpleRNNCell


@keras.saving.register_keras_serializable("course")
class LSTMDecoder(RecurrentDecoder):
    """Rung 2: `RecurrentDecoder` with an LSTM, which keeps what it needs for longer."""

    cell_class = LSTMCell


@keras.saving.register_keras_serializable("course")
class AttentionLSTMDecoder(LSTMDecoder):
    """Rung 3: an LSTM that looks at the image again before each word, where it chooses.

    1. Regions get a learned vector of their place. First state from their mean, as on rung 2.
    2. Where to look: `z_t, a_t = BahdanauAttention(h_{t-1}, regions)`: context `(B * K, width)`
       and weights `(B * K, N)`.
    3. How much it matters: `z_t = sigmoid(W h_{t-1} + b) * z_t`, a gate per number: "of" needs no
       image.
    4. `h_t, c_t = LSTM([word_t, z_t], h_{t-1}, c_{t-1})`.
    5. Logits: `E (W_w word_t + W_h h_t + W_z z_t + b)`.

    Source: Xu et al., "Show, Attend and Tell" (2015).
    """

    has_places = True

    def __init__(self, vocabulary_size: int, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        self.attention = self._made(BahdanauAttention, self.width, name="attention")
        self.gate = self._made(keras.layers.Dense, self.width, "sigmoid", name="gate")
        plain = partial(self._made, keras.layers.Dense, use_bias=False)
        # The LSTM's input matrix in two parts, since the words' part can be had for all steps.
        self.context_input = plain(4 * self.units, name="context_input")
        self.context_output = plain(self.width, name="context_output")
        self.word_output = plain(self.width, name="word_output")

    def build_decoder(self, regions):
        super().build_decoder(regions)
        self.attention.build((None, None, self.units), (None, regions, self.width))
        self.gate.build((None, self.units))
        self.context_input.build((None, self.width))
        self.context_output.build((None, self.width))
        self.word_output.build((None, self.width))

    def encode(self, features, training=False, region_mask=None):
        image = super().encode(features, training, region_mask)
        return {**image, "keys": self.attention.project(image["regions"])}

    def _attend(self, projected, states, image):
        """One step: new states, context `(B * K, width)`, attention `(B * K, N)`."""
        regions = image["regions"]
        h = states["h"]
        query = ops.reshape(h, (ops.shape(regions)[0], -1, self.units))
        context, attention = self.attention(
            query, regions, keys=image["keys"], value_mask=image.get("region_mask")
        )
        context = ops.reshape(context, (-1, self.width)) * self.gate(h)
        states = self._cell_step(projected + self.context_input(context), states)
        return states, context, ops.reshape(attention, (-1, regions.shape[1]))

    def decode(self, words, image, training):
        captions = ops.shape(words)[0] // ops.shape(image["regions"])[0]

        def one_word(states, projected):
            states, context, attention = self._attend(projected, states, image)
            return states, (states["h"], context, attention)

        first = self.initial_state(image, captions)
        h, context, attention = _over_time(one_word, first, self.cell.project(words))
        return self._deep_logits(words, h, context, training), attention[:, :, None, None]

    def decode_step(self, words, state):
        projected = self.cell.project(words)
        states, context, attention = self._attend(projected, state["words"], state["image"])
        return self._deep_logits(words, states["h"], context), states, attention[:, None, None]

    def _deep_logits(self, words, h, context, training=False):
        x = self.word_output(words) + self.output_words(h) + self.context_output(context)
        return self.embedding.logits(self.drop_output(x, training=training))


def _over_time(step, states, inputs):
    """What `step(states, input) -> states, outputs` gives for each time of `(rows, T, dim)`.

    Returns:
        The outputs, `(rows, T, ...)` each.
    """
    if inputs.shape[1] is None:

        def both(before, x):
            after = step(before[0], x)
            return after, after

        # What a scan hands on and what it collects have to be alike.
        first = states, step(states, inputs[:, 0])[1]
        _, (_, outputs) = ops.scan(both, first, ops.transpose(inputs, (1, 0, 2)))
        return tuple(ops.transpose(x, (1, 0, 2)) for x in outputs)
    outputs = []
    for t in range(inputs.shape[1]):
        states, output = step(states, inputs[:, t])
        outputs.append(output)
    return tuple(ops.stack(parts, axis=1) for parts in zip(*outputs, strict=True))
