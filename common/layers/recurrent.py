"""Recurrent layers: the simple cell, the LSTM cell, and layers that run them over a sequence.

A cell computes one step. What it takes from its input does not depend on the step before, so a
cell has it as a method of its own, `project`: over a whole sequence that is one big matrix product
instead of many small ones.
"""

import keras
from keras import ops

from common.layers.activations import get_activation
from common.layers.linear import linear, refuse_symbolic


class _Cell(keras.layers.Layer):
    """What both cells share: weights, `project`, and the interface of `keras.layers.RNN`."""

    gates = 1

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}")
        self.units = units
        self.output_size = units

    def build(self, input_shape):
        width = self.gates * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer="glorot_uniform"
        )
        # Orthogonal: a product of many such matrices neither explodes nor vanishes.
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=self._bias_initializer()
        )

    def _bias_initializer(self):
        return "zeros"

    def project(self, inputs):
        """The part of a step that comes from the input: `x W + b`, `(..., gates * units)`."""
        refuse_symbolic(self, "project", "Call the cell.", inputs)
        return linear(inputs, self.kernel, self.bias)

    def call(self, inputs, states, training=False):
        return self.step(self.project(inputs), states)

    def compute_output_shape(self, input_shape, states_shape=None):
        states = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        output = (input_shape[0], self.units)
        return output, [(input_shape[0], size) for size in states]

    def get_initial_state(self, batch_size=None):
        states = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in states]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("course")
class SimpleRNNCell(_Cell):
    """One step of the simplest recurrent network.

    1. `h_t = activation(x_t W + b + h_{t-1} U)`, `(batch, units)`; it is output and state.

    Its gradient passes through `U` and the activation once per step, so it fades (or explodes)
    with the distance: what the first word was is soon forgotten.

    Source: Elman, "Finding Structure in Time" (1990). `keras.layers.SimpleRNNCell` has dropout
    besides, and no `project`.

    Args:
        units: Size of output and state.
        activation: Name of the activation, or a function.

    Call arguments:
        inputs: `(batch, dim)`.
        states: `[h]`, with `h` of `(batch, units)`.

    Returns:
        The output `(batch, units)` and the new states.
    """

    def __init__(self, units: int, activation="tanh", **kwargs):
        super().__init__(units, **kwargs)
        self.activation = get_activation(activation)
        self._activation = activation
        self.state_size = units

    def step(self, projected, states):
        """The rest of a step, from what `project` gave."""
        refuse_symbolic(self, "step", "Call the cell.", projected)
        h = self.activation(projected + linear(states[0], self.recurrent_kernel))
        return h, [h]

    def get_config(self):
        name = self._activation
        if not isinstance(name, str):
            name = keras.activations.serialize(name)
        return {**super().get_config(), "activation": name}


@keras.saving.register_keras_serializable("course")
class LSTMCell(_Cell):
    """One step of a long short-term memory.

    The memory `c` is changed by adding and scaling only, so that a gradient can pass many steps.

    1. `i, f, g, o = x_t W + b + h_{t-1} U`, four blocks of `(batch, units)`.
    2. Memory: `c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)`: forget some, write some.
    3. Output: `h_t = sigmoid(o) * tanh(c_t)`.

    The bias of `f` starts at 1: at first, remember.

    Sources: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); Gers et al., "Learning to
    Forget" (2000); for the bias Jozefowicz et al. (2015). `keras.layers.LSTMCell` has dropout and
    other activations besides, and no `project`.

    Args:
        units: Size of output and memory.

    Call arguments:
        inputs: `(batch, dim)`.
        states: `[h, c]`, each `(batch, units)`.

    Returns:
        The output `(batch, units)` and the new states.
    """

    gates = 4

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, units]

    def _bias_initializer(self):
        def remember(shape, dtype=None):
            forget = ops.one_hot(1, 4, dtype=dtype)  # the second of the four gates
            return ops.reshape(ops.repeat(forget, shape[0] // 4), shape)

        return remember

    def step(self, projected, states):
        """The rest of a step, from what `project` gave."""
        refuse_symbolic(self, "step", "Call the cell.", projected)
        h, c = states
        i, f, g, o = ops.split(projected + linear(h, self.recurrent_kernel), 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]


class _Recurrent(keras.layers.RNN):
    """`keras.layers.RNN` with one of our cells, made from the layer's own arguments."""

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        return {**config, "units": self.cell.units}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable("course")
class SimpleRNN(_Recurrent):
    """Runs a `SimpleRNNCell` over a sequence.

    `keras.layers.SimpleRNN` has the same weights, and dropout and initialisers of one's choice.

    Args:
        units: Size of output and state.
        activation: Name of the activation, or a function.
        **kwargs: Those of `keras.layers.RNN`, such as `return_sequences` and `return_state`.

    Call arguments:
        sequences: `(batch, time, dim)`.
        mask: `(batch, time)`; where it is false, output and state stay as they were.
        initial_state: As for the cell; zeros by default.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with `return_sequences`.
    """

    def __init__(self, units: int, activation="tanh", **kwargs):
        cell = SimpleRNNCell(units, activation, name="cell", dtype=kwargs.get("dtype"))
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def get_config(self):
        return {**super().get_config(), "activation": self.cell.get_config()["activation"]}


@keras.saving.register_keras_serializable("course")
class LSTM(_Recurrent):
    """Runs an `LSTMCell` over a sequence.

    `keras.layers.LSTM` has the same weights in the same order, and dropout, other activations and
    initialisers, and the kernels of cuDNN on a GPU.

    Args:
        units: Size of output and memory.
        **kwargs: Those of `keras.layers.RNN`, such as `return_sequences` and `return_state`.

    Call arguments:
        sequences: `(batch, time, dim)`.
        mask: `(batch, time)`; where it is false, output and state stay as they were.
        initial_state: As for the cell; zeros by default.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with `return_sequences`.
    """

    def __init__(self, units: int, **kwargs):
        cell = LSTMCell(units, name="cell", dtype=kwargs.get("dtype"))
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)
