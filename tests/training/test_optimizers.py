import keras
import numpy as np
import pytest
from keras import ops

from common.training.optimizers import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 3, 4, 16), (3, 3, 16, 4), (1, 1, 8, 8)])
def test_orthogonalise_gives_singular_values_near_one(shape):
    kernel = np.random.default_rng(0).normal(size=shape).astype("float32")
    result = ops.convert_to_numpy(orthogonalise(ops.convert_to_tensor(kernel), 5))
    assert result.shape == shape
    singular = np.linalg.svd(result.reshape(-1, shape[-1]), compute_uv=False)
    assert singular.min() > 0.4 and singular.max() < 1.3
    # The directions stay: it points the way of U V^T.
    u, _, vt = np.linalg.svd(kernel.reshape(-1, shape[-1]), full_matrices=False)
    exact = u @ vt
    cosine = (result.reshape(exact.shape) * exact).sum() / np.linalg.norm(result)
    assert cosine / np.linalg.norm(exact) > 0.95


@pytest.mark.parametrize(("shape", "rank"), [((3, 3, 4, 16), 16), ((3, 3, 1, 16), 9)])
def test_no_steps_keep_the_direction_and_give_an_orthogonal_matrixs_length(shape, rank):
    kernel = np.random.default_rng(0).normal(size=shape).astype("float32")
    result = ops.convert_to_numpy(orthogonalise(ops.convert_to_tensor(kernel), 0))
    np.testing.assert_allclose(np.linalg.norm(result), np.sqrt(rank), rtol=1e-5)
    np.testing.assert_allclose(
        result / np.linalg.norm(result), kernel / np.linalg.norm(kernel), atol=1e-6
    )


def test_kernel_step_by_hand():
    start = np.random.default_rng(1).normal(size=(1, 1, 3, 3)).astype("float32")
    gradient = np.random.default_rng(2).normal(size=(1, 1, 3, 3)).astype("float32")
    kernel = keras.Variable(start)
    optimizer = Muon(0.1, momentum=0.6)
    optimizer.build([kernel])
    optimizer.apply([ops.convert_to_tensor(gradient)], [kernel])
    direction = ops.convert_to_numpy(orthogonalise(ops.convert_to_tensor(gradient), 3))
    expected = start * np.sqrt(3) / np.linalg.norm(start) - 0.1 * direction
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), expected, atol=1e-5)
    # The second step goes on with the momentum of the first.
    second = np.random.default_rng(3).normal(size=(1, 1, 3, 3)).astype("float32")
    optimizer.apply([ops.convert_to_tensor(second)], [kernel])
    update = second + 0.6 * (0.6 * gradient + second)
    direction = ops.convert_to_numpy(orthogonalise(ops.convert_to_tensor(update), 3))
    expected = expected * np.sqrt(3) / np.linalg.norm(expected) - 0.1 * direction
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), expected, atol=1e-5)


def test_other_variables_take_nesterov_sgd_like_keras():
    rng = np.random.default_rng(3)
    gradients = [rng.normal(size=(4,)).astype("float32") for _ in range(3)]
    ours, theirs = keras.Variable(np.ones(4, "f")), keras.Variable(np.ones(4, "f"))
    muon = Muon(0.5, peak_learning_rate=0.5, other_learning_rate=0.02, other_momentum=0.85)
    sgd = keras.optimizers.SGD(0.02, momentum=0.85, nesterov=True)
    muon.build([ours])
    sgd.build([theirs])
    for gradient in gradients:
        muon.apply([ops.convert_to_tensor(gradient)], [ours])
        sgd.apply([ops.convert_to_tensor(gradient)], [theirs])
    np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=1e-5)


def test_config_round_trip():
    optimizer = Muon(0.3, momentum=0.5, head_learning_rate=7.0, newton_schulz_steps=4)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.get_config() == optimizer.get_config()
