import keras
import numpy as np

from common.evaluation.gradients import kernel_gradients


def test_norms_agree_with_differences():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="tanh", name="first")(pixels)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(2, 3, name="second")(x)
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype("float32")
    labels = np.arange(8) % 2
    found = kernel_gradients(network, images, labels)

    def loss():
        logits = keras.ops.convert_to_numpy(network(images, training=True)).astype("float64")
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -logs[np.arange(8), labels].mean()

    for name, norm in zip(("first", "second"), found, strict=True):
        layer = network.get_layer(name)
        kernel, bias = layer.get_weights()
        gradient = np.zeros_like(kernel)
        for place in np.ndindex(*kernel.shape):
            change = np.zeros_like(kernel)
            change[place] = 1e-2
            ends = []
            for sign in (1, -1):
                layer.set_weights([kernel + sign * change, bias])
                ends.append(loss())
            gradient[place] = (ends[0] - ends[1]) / 2e-2
        layer.set_weights([kernel, bias])
        np.testing.assert_allclose(norm, np.linalg.norm(gradient), rtol=0.01)
