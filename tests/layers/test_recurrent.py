"""The cells and layers against Keras's own, given the same weights."""

import keras
import numpy as np
import pytest
from harness import check_layer
from keras import ops

from common.layers import LSTM, LSTMCell, SimpleRNN, SimpleRNNCell

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 7, 5)).astype("float32")
PAIRS = [(SimpleRNN, keras.layers.SimpleRNN), (LSTM, keras.layers.LSTM)]
CELLS = [(SimpleRNNCell, keras.layers.SimpleRNNCell), (LSTMCell, keras.layers.LSTMCell)]


def with_weights_of(ours, reference, shape):
    """Both built, ours with the reference's weights, which are random, the biases too."""
    ours.build(shape)
    reference.build(shape)
    weights = [RNG.standard_normal(w.shape).astype("float32") * 0.5 for w in reference.weights]
    for layer in (ours, reference):
        layer.set_weights(weights)
    return ours, reference


@pytest.mark.parametrize("layer", [SimpleRNN, LSTM])
@pytest.mark.parametrize("sequences", [False, True])
def test_keras_own_checks(layer, sequences):
    check_layer(
        layer,
        {"units": 4, "return_sequences": sequences},
        input_shape=(2, 3, 5),
        expected_output_shape=(2, 3, 4) if sequences else (2, 4),
        expected_num_trainable_weights=3,
        supports_masking=True,
    )


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"go_backwards": True}])
def test_layers_equal_keras(ours, theirs, options):
    ours, theirs = with_weights_of(ours(6, **options), theirs(6, **options), X.shape)
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-5)


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_masked_steps_change_nothing(ours, theirs):
    ours, theirs = with_weights_of(ours(6), theirs(6), X.shape)
    mask = np.arange(7)[None] < np.array([7, 3, 5])[:, None]
    found = ops.convert_to_numpy(ours(X, mask=mask))
    np.testing.assert_allclose(found, theirs(X, mask=mask), atol=1e-5)
    for row, length in enumerate((7, 3, 5)):
        short = ops.convert_to_numpy(ours(X[row : row + 1, :length]))
        np.testing.assert_allclose(found[row : row + 1], short, atol=1e-5)


@pytest.mark.parametrize("ours, theirs", CELLS)
def test_cells_equal_keras(ours, theirs):
    ours, theirs = with_weights_of(ours(6), theirs(6), (3, 5))
    count = 2 if isinstance(ours, LSTMCell) else 1
    states = [RNG.standard_normal((3, 6)).astype("float32") for _ in range(count)]
    output, after = ours(X[:, 0], states)
    wanted, wanted_after = theirs(X[:, 0], states)
    np.testing.assert_allclose(output, wanted, atol=1e-5)
    for one, other in zip(after, wanted_after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("cell", [SimpleRNNCell(6), LSTMCell(6)])
def test_project_and_step_are_the_call(cell):
    cell.build((3, 5))
    states = [ops.ones((3, 6))] * (2 if isinstance(cell, LSTMCell) else 1)
    once = cell.project(X)  # all steps at once
    np.testing.assert_allclose(
        cell.step(once[:, 4], states)[0], cell(X[:, 4], states)[0], atol=1e-6
    )


def test_lstm_by_hand():
    cell = LSTMCell(1)
    cell.build((1, 1))
    # Input gate open, forget gate closed, output gate open; the candidate is tanh(x).
    cell.set_weights([np.array([[0, 0, 1, 0]]), np.zeros((1, 4)), np.array([99, -99, 0, 99])])
    output, (h, c) = cell(np.array([[0.5]], "float32"), [np.ones((1, 1)), np.ones((1, 1))])
    assert float(c[0, 0]) == pytest.approx(np.tanh(0.5), abs=1e-6)
    assert float(h[0, 0]) == float(output[0, 0]) == pytest.approx(np.tanh(np.tanh(0.5)), abs=1e-6)


def test_an_lstm_remembers_at_first():
    cell = LSTMCell(3)
    cell.build((1, 2))
    np.testing.assert_array_equal(cell.bias, [0] * 3 + [1] * 3 + [0] * 6)


def test_activation_of_the_simple_cell():
    cell = SimpleRNNCell(2, "linear")
    cell.build((1, 2))
    cell.set_weights([np.eye(2), 2 * np.eye(2), np.zeros(2)])
    output, _ = cell(np.array([[1.0, 5.0]]), [np.array([[10.0, 20.0]])])
    np.testing.assert_allclose(output, [[21, 45]])


@pytest.mark.parametrize("cell", [SimpleRNNCell, LSTMCell])
def test_units_must_be_positive(cell):
    with pytest.raises(ValueError, match="`units` must be at least 1. Received: units=0"):
        cell(0)


@pytest.mark.parametrize("layer", [SimpleRNN, LSTM])
def test_integers_are_numbers(layer):
    made = layer(4)
    found = ops.convert_to_numpy(made(np.ones((2, 3, 5), "int32")))
    np.testing.assert_allclose(found, made(np.ones((2, 3, 5), "float32")), atol=1e-6)
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize("argument", ["dropout", "recurrent_dropout", "use_bias"])
@pytest.mark.parametrize("layer", [SimpleRNN, LSTM, LSTMCell])
def test_arguments_that_only_keras_has_are_refused_by_name(layer, argument):
    with pytest.raises(ValueError, match=argument):
        layer(4, **{argument: 0.5})


@pytest.mark.parametrize("cell", [SimpleRNNCell(4), LSTMCell(4)], ids=["simple", "lstm"])
def test_methods_of_cells_refuse_symbolic_tensors(cell):
    cell.build((None, 3))
    with pytest.raises(ValueError, match="project` takes no KerasTensor"):
        cell.project(keras.Input((3,)))
    states = [keras.Input((4,)) for _ in cell.get_initial_state(1)]
    with pytest.raises(ValueError, match="step` takes no KerasTensor"):
        cell.step(keras.Input((4 * cell.gates,)), states)


@pytest.mark.parametrize("layer", [SimpleRNN(4), LSTM(4)], ids=["simple", "lstm"])
def test_sequences_have_three_axes(layer):
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        layer(np.zeros((5, 3), "float32"))
