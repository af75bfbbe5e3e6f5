"""Embeddings by hand and against Keras's own."""

import keras
import numpy as np
import pytest
from harness import check_layer
from keras import ops

from common.layers import PositionEmbedding, TiedEmbedding

TOKENS = np.array([[1, 4, 0], [2, 2, 3]], "int32")


def test_keras_own_checks():
    check_layer(
        TiedEmbedding,
        {"vocabulary_size": 5, "dim": 4},
        input_data=TOKENS,
        expected_output_shape=(2, 3, 4),
        expected_num_trainable_weights=2,
        run_training_check=False,
    )
    check_layer(
        PositionEmbedding,
        {"length": 6},
        input_shape=(2, 3, 4),
        expected_output_shape=(2, 3, 4),
        expected_num_trainable_weights=1,
    )


def test_tied_embedding_reads_and_predicts_with_one_matrix():
    layer = TiedEmbedding(5, 4)
    layer.build()
    theirs = keras.layers.Embedding(5, 4)
    theirs.build()
    theirs.set_weights([layer.embeddings])
    np.testing.assert_allclose(layer(TOKENS), 2 * theirs(TOKENS), rtol=1e-6)  # sqrt(4)
    layer.bias.assign([0, 1, 2, 3, 4])
    x = np.random.default_rng(0).standard_normal((2, 4)).astype("float32")
    expected = x @ ops.convert_to_numpy(layer.embeddings).T + np.arange(5)
    np.testing.assert_allclose(layer.logits(x), expected, atol=1e-5)


def test_vectors_and_logits_are_moderate_at_first():
    layer = TiedEmbedding(1000, 64)
    layer.build()
    vectors = ops.convert_to_numpy(layer(np.arange(1000)))
    assert vectors.std() == pytest.approx(1, abs=0.05)
    x = np.random.default_rng(0).standard_normal((100, 64)).astype("float32")
    assert ops.convert_to_numpy(layer.logits(x)).std() == pytest.approx(1, abs=0.1)


def test_logits_are_float32_in_any_precision():
    layer = TiedEmbedding(5, 4, dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer(TOKENS).dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(layer.logits(np.ones((2, 4))).dtype) == "float32"


def test_positions():
    layer = PositionEmbedding(6)
    x = np.zeros((1, 3, 2), "float32")
    layer.build(x.shape)
    layer.positions.assign(np.arange(12.0).reshape(6, 2))
    np.testing.assert_allclose(layer(x)[0], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_allclose(layer(x, start=2)[0], [[4, 5], [6, 7], [8, 9]])
    with pytest.raises(ValueError, match="7 positions from 0 on, but `length` allows 6. Shorten"):
        layer(np.zeros((1, 7, 2)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TiedEmbedding(0, 4), "vocabulary_size=0, dim=4"),
        (lambda: PositionEmbedding(0), "`length` must be at least 1"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("mode", "learned"), [("frozen", 1), ("projected", 2), ("tuned", 3)])
def test_vectors_from_elsewhere(mode, learned):
    arguments = {"vocabulary_size": 5, "dim": 4, "vector_dim": 3, "vector_mode": mode}
    check_layer(
        TiedEmbedding,
        arguments,
        input_data=TOKENS,
        expected_output_shape=(2, 3, 4),
        expected_num_trainable_weights=learned,
        expected_num_non_trainable_weights=3 - learned,
        run_training_check=False,
    )
    layer = TiedEmbedding(**arguments)
    layer.build()
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype("float32")
    layer.set_vectors(vectors)
    centred = vectors - vectors.mean(axis=0)
    scaled = centred / np.linalg.norm(centred, axis=-1).mean()
    # The map keeps lengths and angles: so do the words' vectors.
    read = ops.convert_to_numpy(layer(np.arange(5))) / 2  # sqrt(4)
    np.testing.assert_allclose(read @ read.T, scaled @ scaled.T, atol=1e-5)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(layer.logits(x), x @ read.T, atol=1e-5)


def test_vectors_of_another_shape():
    layer = TiedEmbedding(5, 4, vector_dim=3)
    layer.build()
    with pytest.raises(ValueError, match=r"Wanted vectors of shape \(5, 3\). Received: \(5, 4\)"):
        layer.set_vectors(np.ones((5, 4)))
    plain = TiedEmbedding(5, 4)
    plain.build()
    with pytest.raises(ValueError, match="Wanted vectors of shape"):
        plain.set_vectors(np.ones((5, 4)))
    with pytest.raises(ValueError, match="`vector_mode` must be one of"):
        TiedEmbedding(5, 4, vector_dim=3, vector_mode="thawed")


def test_predicting_by_a_call():
    layer = TiedEmbedding(5, 4)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    np.testing.assert_allclose(layer(layer(TOKENS), reverse=True), layer.logits(layer(TOKENS)))
    np.testing.assert_allclose(layer(x, reverse=True), layer.logits(x))
    with pytest.raises(ValueError, match="`TiedEmbedding.logits` takes no KerasTensor.*reverse=Tr"):
        layer.logits(keras.Input((3, 4)))
    layer = TiedEmbedding(3, 2, vector_dim=2)
    layer.build()
    layer.set_vectors([[1, 0], [0, 1], [1, 1]])


def test_positions_of_more_axes_and_beyond_the_end():
    layer = PositionEmbedding(6)
    x = np.zeros((2, 3, 4, 5), "float32")
    found = ops.convert_to_numpy(layer(x))
    wanted = ops.convert_to_numpy(layer.positions)[:4]
    np.testing.assert_allclose(found, np.broadcast_to(wanted, x.shape))
    for start in (3, -1, np.int64(7)):
        with pytest.raises(ValueError, match=f"4 positions from {start} on, but `length` allows 6"):
            layer(x, start=start)
    with pytest.raises(ValueError, match=r"must be \(..., time, dim\)"):
        PositionEmbedding(6)(np.zeros(3))


def test_positions_of_whole_numbers_are_not_lost():
    layer = PositionEmbedding(5)
    inputs = np.arange(12, dtype="int32").reshape(1, 4, 3)
    found = ops.convert_to_numpy(layer(inputs))
    assert found.dtype == np.float32
    expected = inputs + ops.convert_to_numpy(layer.positions)[:4]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
