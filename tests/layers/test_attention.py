"""Attention layers against Keras's own and by hand."""

import keras
import numpy as np
import pytest
from harness import check_layer
from keras import ops

from common.layers import BahdanauAttention, MultiHeadAttention, causal_mask, masked_mean
from common.layers.masks import masked_softmax

RNG = np.random.default_rng(0)
QUERY = RNG.standard_normal((2, 3, 6)).astype("float32")
VALUE = RNG.standard_normal((2, 5, 8)).astype("float32")


def randomised(layer, *shapes):
    layer.build(*shapes)
    layer.set_weights([RNG.standard_normal(w.shape) * 0.4 for w in layer.weights])
    return layer


def numbers(x):
    return ops.convert_to_numpy(x)


def test_bahdanau_passes_keras_own_checks():
    check_layer(
        BahdanauAttention,
        {"units": 4},
        input_shape={"query_shape": QUERY.shape, "value_shape": VALUE.shape},
        expected_output_shape=((2, 3, 8), (2, 3, 5)),
        expected_num_trainable_weights=4,
        run_training_check=False,
        run_mixed_precision_check=False,  # the weights are float32 in any precision
    )


def test_multi_head_passes_keras_own_checks():
    check_layer(
        MultiHeadAttention,
        {"num_heads": 2, "key_dim": 3, "dropout": 0.5, "seed": 1},
        input_shape={"query_shape": QUERY.shape, "value_shape": VALUE.shape},
        expected_output_shape=(2, 3, 6),
        expected_num_trainable_weights=8,
        expected_num_seed_generators=1,
        expected_num_non_trainable_variables=1,
        run_training_check=False,
    )


def test_bahdanau_equals_its_formula():
    layer = randomised(BahdanauAttention(4), QUERY.shape, VALUE.shape)
    context, weights = (numbers(x) for x in layer(QUERY, VALUE))
    w_q, w_k, bias, w = (numbers(v) for v in layer.weights)
    for b in range(2):
        for i in range(3):
            scores = np.array(
                [float((np.tanh(QUERY[b, i] @ w_q + v @ w_k + bias) @ w)[0]) for v in VALUE[b]]
            )
            expected = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights[b, i], expected, atol=1e-5)
            np.testing.assert_allclose(context[b, i], expected @ VALUE[b], atol=1e-5)


def test_bahdanau_equals_keras_additive_attention():
    """With identities for the two matrices that `AdditiveAttention` lacks."""
    layer = BahdanauAttention(6)
    value = VALUE[..., :6]
    layer.build(QUERY.shape, value.shape)
    scale = RNG.standard_normal(6)
    layer.set_weights([np.eye(6), np.eye(6), np.zeros(6), scale[:, None]])
    theirs = keras.layers.AdditiveAttention()
    theirs.build([QUERY.shape, value.shape])
    theirs.set_weights([scale])
    wanted, scores = theirs([QUERY, value], return_attention_scores=True)
    context, weights = layer(QUERY, value)
    np.testing.assert_allclose(context, wanted, atol=1e-5)
    np.testing.assert_allclose(weights, scores, atol=1e-5)


def test_bahdanau_with_kept_keys_and_mask():
    layer = randomised(BahdanauAttention(4), QUERY.shape, VALUE.shape)
    kept = layer(QUERY, VALUE, keys=layer.project(VALUE))
    for one, other in zip(kept, layer(QUERY, VALUE), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    mask = np.array([[True, True, True, False, False], [True] * 5])
    context, weights = layer(QUERY, VALUE, value_mask=mask)
    assert not numbers(weights)[0, :, 3:].any()
    np.testing.assert_allclose(numbers(weights).sum(axis=-1), 1, atol=1e-6)
    alone, _ = layer(QUERY[:1], VALUE[:1, :3])
    np.testing.assert_allclose(numbers(context)[:1], alone, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", ["no", "mask", "causal"])
def test_multi_head_equals_keras(heads, masked):
    ours = randomised(MultiHeadAttention(heads, 3), QUERY.shape, VALUE.shape)
    theirs = keras.layers.MultiHeadAttention(heads, 3)
    theirs.build(QUERY.shape, VALUE.shape)
    # Keras keeps its kernels in three dimensions.
    values = {v.path.rsplit("/", 1)[-1]: numbers(v) for v in ours.weights}
    order = [
        f"{part}_{kind}"
        for part in ("query", "key", "value", "output")
        for kind in ("kernel", "bias")
    ]
    theirs.set_weights(
        [values[name].reshape(w.shape) for name, w in zip(order, theirs.weights, strict=True)]
    )
    options = {
        "no": {},
        "mask": {"attention_mask": RNG.random((2, 3, 5)) < 0.7},
        "causal": {"use_causal_mask": True},
    }[masked]
    wanted, scores = theirs(QUERY, VALUE, return_attention_scores=True, **options)
    found, weights = ours(QUERY, VALUE, return_attention_scores=True, **options)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(weights, scores, atol=1e-5)


def test_multi_head_projected_once():
    layer = randomised(MultiHeadAttention(2, 3), QUERY.shape, VALUE.shape)
    keys, values = layer.project(VALUE)
    assert keys.shape == values.shape == (2, 2, 5, 3)
    found, _ = layer.attend(QUERY, keys, values)
    np.testing.assert_allclose(found, layer(QUERY, VALUE), atol=1e-6)


def test_dropout_acts_in_training_only():
    layer = randomised(MultiHeadAttention(2, 3, dropout=0.9, seed=0), QUERY.shape, VALUE.shape)
    plain = numbers(layer(QUERY, VALUE))
    np.testing.assert_array_equal(plain, numbers(layer(QUERY, VALUE)))
    assert np.abs(plain - numbers(layer(QUERY, VALUE, training=True))).max() > 1e-3


def test_scores_told_in_training_are_those_before_dropout():
    """As Keras's: shares of the regions, of sum 1."""
    layer = randomised(MultiHeadAttention(2, 3, dropout=0.9, seed=0), QUERY.shape, VALUE.shape)
    _, trained = layer(QUERY, VALUE, training=True, return_attention_scores=True)
    _, asked = layer(QUERY, VALUE, return_attention_scores=True)
    np.testing.assert_array_equal(numbers(trained), numbers(asked))


def test_causal_mask():
    np.testing.assert_array_equal(causal_mask(3, 3), np.tril(np.ones((3, 3))))


def test_masked_softmax_is_float32():
    scores = ops.cast(np.array([[1.0, 2.0, 3.0]]), "float16")
    found = masked_softmax(scores, np.array([[True, True, False]]))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, [[0.26894, 0.73106, 0]], atol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BahdanauAttention(0), "`units` must be at least 1"),
        (lambda: MultiHeadAttention(0, 3), "num_heads=0, key_dim=3"),
        (lambda: MultiHeadAttention(2, 0), "num_heads=2, key_dim=0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_implicit_masks_are_honoured_and_kept():
    words = np.array([[3, 1, 4, 0], [2, 0, 0, 0]])
    regions = np.array([[1, 2, 0], [5, 0, 0]])
    embedding = keras.layers.Embedding(6, 6, mask_zero=True)
    query, value = embedding(words), embedding(regions)
    ours = randomised(MultiHeadAttention(2, 3), query.shape, value.shape)
    theirs = keras.layers.MultiHeadAttention(2, 3)
    theirs.build(query.shape, value.shape)
    theirs.set_weights(
        [numbers(ours.weights[i]).reshape(w.shape) for i, w in enumerate(theirs.weights)]
    )
    found, weights = ours(query, value, return_attention_scores=True)
    wanted, scores = theirs(query, value, return_attention_scores=True)
    query, value = embedding(words), embedding(regions)  # Keras's layer takes masks off its inputs
    there = words != 0
    np.testing.assert_allclose(numbers(found)[there], numbers(wanted)[there], atol=1e-5)
    # A query that does not count looks nowhere in particular.
    np.testing.assert_allclose(numbers(weights).transpose(0, 2, 1, 3)[~there], 1 / 3, atol=1e-6)
    scores, weights = (numbers(x).transpose(0, 2, 1, 3)[there] for x in (scores, weights))
    np.testing.assert_allclose(weights, scores, atol=1e-6)
    assert (weights[0, :, 2] == 0).all() and (weights[-1, :, 1:] == 0).all()
    np.testing.assert_array_equal(found._keras_mask, there)
    context, weights = BahdanauAttention(4)(query, value)
    assert (numbers(weights)[0, :, 2] == 0).all() and (numbers(weights)[1, :, 1:] == 0).all()
    np.testing.assert_array_equal(context._keras_mask, there)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 1, 3, 5), (2, 2, 3, 5), (1, 3, 1)])
def test_masks_of_all_shapes(shape):
    layer = randomised(MultiHeadAttention(2, 3), QUERY.shape, VALUE.shape)
    mask = np.random.default_rng(1).random(shape) < 0.6
    _, weights = layer(QUERY, VALUE, attention_mask=mask, return_attention_scores=True)
    whole = mask if len(shape) == 4 else mask[None, None] if len(shape) == 2 else mask[:, None]
    whole = np.broadcast_to(whole, (2, 2, 3, 5))
    some = whole.any(axis=-1)  # where there is nothing to look at, all places are equal
    np.testing.assert_array_equal((numbers(weights) > 0)[some], whole[some])
    np.testing.assert_allclose(numbers(weights)[~some], 1 / 5, atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: MultiHeadAttention(2, 3)(
                QUERY, VALUE, attention_mask=np.full((3, 5), -1e9, "float32")
            ),
            "`attention_mask` must be bool, true where .* 2 or 3 or 4 axes. Received: .*float32",
        ),
        (
            lambda: BahdanauAttention(4)(QUERY, VALUE, value_mask=np.ones((2, 5), "int32")),
            "`value_mask` must be bool",
        ),
        (lambda: MultiHeadAttention(2, 3)(QUERY, VALUE, VALUE), "positional"),
        (
            lambda: MultiHeadAttention(2, 3)(np.zeros((2, 3, 4, 6)), VALUE),
            r"`query` must have three axes.*Received: shape \(2, 3, 4, 6\)",
        ),
        (
            lambda: MultiHeadAttention(2, 3).project(keras.Input((5, 8))),
            "`MultiHeadAttention.project` takes no KerasTensor.*Call the layer",
        ),
        (
            lambda: BahdanauAttention(4).project(keras.Input((5, 8))),
            "`BahdanauAttention.project` takes no KerasTensor.*Leave `keys` out",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        call()


def test_integers_are_numbers():
    ones = np.ones((2, 3, 6), "int32")
    for make in (lambda: MultiHeadAttention(2, 3), lambda: BahdanauAttention(4)):
        layer = randomised(make(), ones.shape, ones.shape)
        whole, floats = layer(ones, ones), layer(ones.astype("float32"), ones.astype("float32"))
        for one, other in zip(keras.tree.flatten(whole), keras.tree.flatten(floats), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
            assert np.abs(numbers(one)).max() > 0.01


def test_bahdanau_queries_that_do_not_count_get_nothing():
    layer = BahdanauAttention(3)
    query, value = (
        np.random.default_rng(i).standard_normal((2, n, 4)) for i, n in ((0, 3), (1, 5))
    )
    mask = np.array([[True, False, True], [False, True, True]])
    whole, weights = layer(query, value)
    context, same = layer(query, value, query_mask=mask)
    expected = np.where(mask[..., None], ops.convert_to_numpy(whole), 0)
    np.testing.assert_allclose(ops.convert_to_numpy(context), expected, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(same), ops.convert_to_numpy(weights))
    with pytest.raises(ValueError, match="`query_mask` must be bool"):
        layer(query, value, query_mask=mask.astype("float32"))


def test_means_refuse_what_is_no_mask():
    with pytest.raises(ValueError, match="`mask` must be bool"):
        masked_mean(np.ones((2, 3, 4), "float32"), np.float32([[0, 0, -1e9]] * 2))
