"""Saliency maps: which pixels of an image a classifier's answer depends on.

Every function takes a model of raw `uint8` pixels as it was saved, nested models included, and
gives maps (N, H, W) float32 in the size of the images. `class_index` says the score of which
class is explained: one index for all images, one per image (N,), or `None` for the predicted
class of each. A handful of images at a time: they are computed as one batch.

No gradient flows into integers, so gradients are taken where pixels become numbers: at the
first layer that puts out floats, the scaling. They tell logits per unit of the scaled pixels.
"""

import contextlib
from collections.abc import Callable, Iterator

import cv2
import keras
import numpy as np
from keras import ops

from common.errors import ConfigError
from common.evaluation.classification import check_images, predict, predict_logits
from common.training.backend import gradient_function


def gradient_saliency(model: keras.Model, images: np.ndarray, class_index=None) -> np.ndarray:
    """The largest absolute gradient of the three channels of each pixel.

    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks" (2014).
    """
    return np.abs(pixel_gradients(model, images, class_index)).max(axis=-1)


def pixel_gradients(model: keras.Model, images: np.ndarray, class_index=None) -> np.ndarray:
    """The gradient of the class's logit with respect to the scaled pixels, (N, H, W, 3)."""
    classes = _class_indices(model, images, class_index)
    layer = _scaling_layer(model, images)
    gradient = _gradient_at(model, layer, images, classes)
    return gradient(np.zeros(images.shape, "float32"))[1]


def smooth_grad(
    model: keras.Model,
    images: np.ndarray,
    class_index=None,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """`gradient_saliency` of the mean gradient over noisy copies of each image.

    The gradient of a deep network jumps from pixel to pixel; its mean around the image does
    less. Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017).

    Args:
        model: Takes raw pixels, gives logits.
        images: uint8 (N, H, W, 3).
        class_index: See the module's docstring.
        samples: Noisy copies.
        noise: Standard deviation, as a share of each image's range of scaled pixels.
        seed: Of the noise.
    """
    if samples < 1 or noise < 0:
        raise ConfigError(
            f"Wanted samples >= 1 and noise >= 0. Received: samples={samples}, noise={noise}"
        )
    classes = _class_indices(model, images, class_index)
    layer = _scaling_layer(model, images)
    gradient = _gradient_at(model, layer, images, classes)
    scaled, mean = gradient(np.zeros(images.shape, "float32"))
    deviation = noise * np.ptp(scaled, axis=(1, 2, 3), keepdims=True)
    rng = np.random.default_rng(seed)
    mean = np.zeros_like(mean)
    for _ in range(samples):
        offset = deviation * rng.standard_normal(images.shape, dtype="float32")
        mean += gradient(offset)[1] / samples
    return np.abs(mean).max(axis=-1)


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index=None,
    layer: str | keras.layers.Layer | None = None,
) -> np.ndarray:
    """Where the feature maps of a layer speak for the class.

    1. `A (N, h, w, C)`: the layer's output; `G = d logit / d A`
    2. `weight_c = mean of G over h and w`
    3. `map = relu(sum_c weight_c A_c)`, enlarged to (N, H, W)

    Selvaraju et al., "Grad-CAM" (2017).

    Args:
        model: Takes raw pixels, gives logits.
        images: uint8 (N, H, W, 3).
        class_index: See the module's docstring.
        layer: Itself or its name, at any depth of nested models; by default the last layer
            whose output still has positions, (N, h, w, C) with h w > 1.

    Raises:
        ConfigError: if there is no such layer, or the model calls it more than once.
    """
    classes = _class_indices(model, images, class_index)
    outputs = _outputs(model, images)
    if layer is None:
        maps = [item for item, output in outputs if np.prod(output.shape[1:3]) > 1]
        if not maps:
            raise ConfigError(f"The model {model.name!r} has no layer with feature maps.")
        layer = maps[-1]
    elif isinstance(layer, str):
        layer = _named_layer(model, layer)
    shape = next((output.shape for item, output in outputs if item is layer), None)
    if shape is None:
        raise ConfigError(f"The layer {layer.name!r} has no output (N, h, w, C) in {model.name!r}.")
    features, gradients = _gradient_at(model, layer, images, classes)(np.zeros(shape, "float32"))
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * features).sum(axis=-1), 0)
    size = (images.shape[2], images.shape[1])
    return np.stack([cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in maps])


def occlusion(
    model: keras.Model,
    images: np.ndarray,
    class_index=None,
    patch: int = 8,
    stride: int = 4,
    batch_size: int = 500,
) -> np.ndarray:
    """How much the class's probability falls when a patch is hidden, -1..1.

    The patch is painted in the image's mean colour; a pixel gets the mean fall over the patches
    that cover it. Needs no gradient. Zeiler and Fergus, "Visualizing and Understanding
    Convolutional Networks" (2014).

    Args:
        model: Takes raw pixels, gives logits.
        images: uint8 (N, H, W, 3).
        class_index: See the module's docstring.
        patch: Side of the patch in pixels.
        stride: Pixels from one place to the next.
        batch_size: Images computed at once.
    """
    classes = _class_indices(model, images, class_index)
    height, width = images.shape[1:3]
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise ConfigError(
            f"Wanted 1 <= stride <= patch <= {min(height, width)}. "
            f"Received: patch={patch}, stride={stride}"
        )
    rows, columns = (
        sorted({*range(0, side - patch + 1, stride), side - patch}) for side in (height, width)
    )
    places = [np.s_[r : r + patch, c : c + patch] for r in rows for c in columns]
    maps = np.zeros(images.shape[:3], "float32")
    for image, class_, fall in zip(images, classes, maps, strict=True):
        hidden = np.repeat(image[None], len(places) + 1, axis=0)  # the last one stays whole
        for copy, place in zip(hidden, places, strict=False):
            copy[place] = image.mean(axis=(0, 1)).round()
        probability = predict(model, hidden, batch_size)[:, class_]
        covered = np.zeros((height, width), "float32")
        for place, p in zip(places, probability, strict=False):
            fall[place] += probability[-1] - p
            covered[place] += 1
        fall /= covered
    return maps


def _class_indices(model, images, class_index) -> np.ndarray:
    check_images(model, images)
    if class_index is None:
        return predict_logits(model, images).argmax(axis=1)
    classes = np.asarray(class_index)
    if classes.shape not in ((), (len(images),)):
        raise ConfigError(
            f"class_index must be one number or one per image ({len(images)}). "
            f"Received: shape {classes.shape}"
        )
    count = model.output_shape[-1]
    if classes.min() < 0 or classes.max() >= count:
        raise ConfigError(f"class_index must lie in 0..{count - 1}. Received: {class_index}")
    return np.broadcast_to(classes, len(images))


def _gradient_at(model, layer, images, classes) -> Callable:
    """A function of an offset that is added to the layer's output.

    It gives the layer's output with the offset, and there the gradient of the class's logit.
    Adding a zero instead of cutting the model in two works with any model: nested ones, and
    layers that a shortcut passes by.
    """
    chosen = keras.utils.to_categorical(classes, model.output_shape[-1])

    def score(offset, images):
        outputs = []

        def add_offset(output):
            outputs.append(output + ops.cast(offset, output.dtype))
            return outputs[-1]

        with _changed_output(layer, add_offset):
            logits = model(images, training=False)
        if len(outputs) != 1:
            raise ConfigError(
                f"{model.name!r} must call the layer {layer.name!r} once, "
                f"not {len(outputs)} times. Choose another layer."
            )
        # Images do not mix at inference: the gradient of the sum has each image's own.
        total = ops.sum(ops.cast(logits, "float32") * chosen)
        return total, ops.cast(outputs[0], "float32")

    compiled = gradient_function(score)

    def output_and_gradient(offset):
        _, output, gradient = compiled(offset, images)
        return ops.convert_to_numpy(output), ops.convert_to_numpy(gradient)

    return output_and_gradient


def _outputs(model, images) -> list[tuple[keras.layers.Layer, object]]:
    """Each layer that puts out (N, h, w, C), inner layers too, with its output, as computed."""
    found = []
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers(include_self=False):
            stack.enter_context(_changed_output(layer, _recorder(layer, found)))
        model(images, training=False)
    return found


def _recorder(layer, found) -> Callable:
    def record(output):
        if len(getattr(output, "shape", ())) == 4:
            found.append((layer, output))
        return output

    return record


@contextlib.contextmanager
def _changed_output(layer: keras.layers.Layer, change: Callable) -> Iterator[None]:
    """Within, the layer gives `change(output)` instead of its output."""
    call = layer.call
    layer.call = lambda *args, **kwargs: change(call(*args, **kwargs))
    try:
        yield
    finally:
        del layer.call  # uncovers the method of the class


def _scaling_layer(model, images) -> keras.layers.Layer:
    for layer, output in _outputs(model, images):
        if keras.backend.is_float_dtype(output.dtype):
            if tuple(output.shape) == images.shape:
                return layer
            break
    raise ConfigError(
        f"The first layer of {model.name!r} that puts out floats must give scaled pixels of "
        f"the shape of the images, {images.shape[1:]}. Put a PixelScaling layer first."
    )


def _named_layer(model, name: str) -> keras.layers.Layer:
    found = [item for item in model._flatten_layers(include_self=False) if item.name == name]
    if len(found) != 1:
        problem = "has no layer" if not found else f"has {len(found)} layers"
        names = ", ".join(layer.name for layer in model.layers)
        raise ConfigError(f"{model.name!r} {problem} named {name!r}. It has: {names}")
    return found[0]
