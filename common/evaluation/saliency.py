"""Saliency maps: which pixels of an image a classifier's answer depends on.

Every function takes a model of raw `uint8` pixels as it was saved, nested models included, and
gives maps (N, H, W) float32 in the size of the images. `class_index` says the score of which
class is explained: one index for all images, one per image (N,), or `None` for the predicted
class of each. A handful of images at a time: they are computed as one batch.

No gradient flows into integers, so gradients are taken where pixels become numbers: at the
first layer that puts out floats, the scaling. They tell logits per unit of the scaled pixels.

A map that looks right proves nothing: an edge detector's looks right too. `randomisation_test`
tells the maps that depend on what the model learnt from those that do not.
"""

from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
import pandas as pd
from keras import ops
from scipy.stats import spearmanr

from common.errors import ConfigError, DataError
from common.evaluation.classification import check_images, predict, predict_logits
from common.evaluation.feature_maps import cell_centres, changed_output, feature_maps
from common.models.ensemble import Ensemble
from common.training.backend import gradient_function

FINE = 7  # cells on a side of the maps that Grad-CAM takes by default


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
    3. `map = relu(sum_c weight_c A_c)`, (N, h, w)
    4. Each cell's value is put at the centre of the pixels that it sees, see `cell_centres`; it is
       interpolated between centres and constant beyond the outermost.

    Selvaraju et al., "Grad-CAM" (2017).

    Args:
        model: Takes raw pixels, gives logits.
        images: uint8 (N, H, W, 3).
        class_index: See the module's docstring.
        layer: Itself or its name, at any depth of nested models; by default the last layer or
            block whose maps have at least 7x7 cells.

    Raises:
        ConfigError: if there is no such layer, its output has no positions, or the model calls it
            more than once.
    """
    classes = _class_indices(model, images, class_index)
    maps = feature_maps(model, images)
    if layer is None:
        layer = _last_layer(model, maps, images.shape[1:3])
    elif isinstance(layer, str):
        layer = _named_layer(model, layer)
    shape = next((found.shape for found in maps if found.layer is layer), (0, 1, 1, 0))
    if shape[1:3] == (1, 1):
        raise ConfigError(
            f"The layer {layer.name!r} has no output (N, h, w, C) with positions in "
            f"{model.name!r}. Choose one before the pooling over all positions."
        )
    features, gradients = _gradient_at(model, layer, images, classes)(np.zeros(shape, "float32"))
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    values = np.maximum((weights * features).sum(axis=-1), 0)
    rows, columns = cell_centres(maps, shape[1:3], images.shape[1:3])
    down, across = _interpolation(rows, images.shape[1]), _interpolation(columns, images.shape[2])
    return np.einsum("ih,nhw,jw->nij", down, values, across)


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


def randomisation_test(
    model: keras.Model, images: np.ndarray, method: Callable, class_index=None, seed: int = 0
) -> pd.DataFrame:
    """How much of a method's maps is left when the weights are randomised, layer by layer.

    1. Compute the maps of the model as it is.
    2. Shuffle the weights of the last layer, then also those of the layer before it, and so on
       down to the pixels ("cascading randomisation"); each time, compute the maps of the same
       classes again.
    3. Compare each with the first by Spearman's rank correlation of the absolute values.

    Similarity must fall: a map that stays explains the image and not the model. That it falls is
    necessary, not sufficient: maps of pure noise pass too. Adebayo et al., "Sanity Checks for
    Saliency Maps" (2018); its limits: Binder et al., "Shortcomings of Top-Down Randomization-Based
    Sanity Checks" (2023).

    Args:
        model, images, class_index: See the module's docstring.
        method: One of this module's functions, or any `method(model, images, class_index)` that
            gives maps (N, H, W).
        seed: Of the shuffling.

    Returns:
        From `map_similarity`, for the maps of `randomised_maps`.

    Raises:
        ConfigError, DataError: as `randomised_maps` and `map_similarity`.
    """
    return map_similarity(randomised_maps(model, images, method, class_index, seed))


def randomised_maps(
    model: keras.Model, images: np.ndarray, method: Callable, class_index=None, seed: int = 0
) -> dict[str, np.ndarray]:
    """The maps of each step of `randomisation_test`; arguments as there.

    Weights are shuffled within each array, so that they keep their scale and the network its
    range; those of a block (a layer of layers) together. The model gets its own back, also after
    an error.

    Returns:
        Maps (N, H, W) by the name of the layer that was randomised last, from the head to the
        stem: "original" first, then "unchanged", the original computed once more.

    Raises:
        ConfigError: if the model has no weights.
    """
    classes = _class_indices(model, images, class_index)
    layers = [(name, layer) for name, layer in _layers_from_the_top(model) if layer.weights]
    if not layers:
        raise ConfigError(f"The model {model.name!r} has no weights to randomise.")
    rng = np.random.default_rng(seed)
    learnt = model.get_weights()
    maps = {name: method(model, images, classes) for name in ("original", "unchanged")}
    try:
        for name, layer in layers:
            shuffled = [rng.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()]
            layer.set_weights(shuffled)
            maps[name] = method(model, images, classes)
    finally:
        model.set_weights(learnt)
    return maps


def map_similarity(maps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Rank correlation of each image's maps with the first ones, of absolute values.

    Args:
        maps: Arrays (N, H, W), as `randomised_maps` gives them.

    Returns:
        A row per array but the first: `layer` (its name), mean `similarity` over the images, and
        the `low`est and `high`est. A constant map is like another constant one (1) and unlike
        all else (0).

    Raises:
        DataError: for fewer than two arrays, other shapes, or values that are not finite.
    """
    if len(maps) < 2:
        raise DataError(f"Wanted two sets of maps to compare, or more. Received: {len(maps)}")
    (_, original), *others = maps.items()
    rows = []
    for layer, changed in others:
        if np.shape(changed) != np.shape(original) or np.ndim(changed) != 3:
            raise DataError(
                f"Maps must all have one shape (N, H, W). Received: {np.shape(original)} and, "
                f"for {layer!r}, {np.shape(changed)}"
            )
        similarity = [_rank_correlation(a, b) for a, b in zip(original, changed, strict=True)]
        rows.append((layer, np.mean(similarity), min(similarity), max(similarity)))
    return pd.DataFrame(rows, columns=["layer", "similarity", "low", "high"])


def require_sensitive(table: pd.DataFrame, limit: float = 0.7, method: str = "The method") -> None:
    """Refuses a method whose maps survive that all weights are random.

    Args:
        table: From `randomisation_test`.
        limit: Mean similarity from which on maps count as the same. At 0.7, half of the variance of
            the ranks (its square) is there with no learnt weight. Gradients of any network are
            larger where an image has contrast, so that honest methods need not come near 0.
        method: Its name, for the message.

    Raises:
        DataError: if the maps are the same in the last row; or if they are not the same even in
            the first, where no weight has changed, so that their changing proves nothing.
    """
    unchanged, random = table["similarity"].iloc[[0, -1]]
    if random >= limit:
        raise DataError(
            f"{method} is refused: with all weights random, its maps are still those of the "
            f"trained model (rank correlation {random:.2f}, limit {limit:g}). They show the image, "
            "not what the model learnt: explain no prediction with them."
        )
    if unchanged < limit:
        raise DataError(
            f"{method} cannot be tested: two maps of the same model differ (rank correlation "
            f"{unchanged:.2f}, limit {limit:g}). Fix its seed, or take more samples."
        )


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
    if isinstance(model, Ensemble):
        raise ConfigError(
            f"A map of gradients is one network's, and {model.name!r} has {len(model.members)}: "
            "take one of its `members`."
        )
    chosen = keras.utils.to_categorical(classes, model.output_shape[-1])

    def score(offset, images):
        outputs = []

        def add_offset(output, *_):
            outputs.append(output + ops.cast(offset, output.dtype))
            return outputs[-1]

        with changed_output(layer, add_offset):
            logits = model(images, training=False)
        if len(outputs) != 1:
            raise ConfigError(
                f"{model.name!r} must call the layer {layer.name!r} once, "
                f"not {len(outputs)} times. Choose another layer."
            )
        # Images do not mix at inference: the gradient of the sum has each image's own.
        total = ops.sum(ops.multiply(ops.cast(logits, "float32"), chosen))
        return total, ops.cast(outputs[0], "float32")

    compiled = gradient_function(score)

    def output_and_gradient(offset):
        _, output, gradient = compiled(offset, images)
        return ops.convert_to_numpy(output), ops.convert_to_numpy(gradient)

    return output_and_gradient


def _scaling_layer(model, images) -> keras.layers.Layer:
    for found in feature_maps(model, images):
        if keras.backend.is_float_dtype(found.dtype):
            if found.shape == images.shape:
                return found.layer
            break
    raise ConfigError(
        f"The first layer of {model.name!r} that puts out floats must give scaled pixels of "
        f"the shape of the images, {images.shape[1:]}. Put a PixelScaling layer first."
    )


def _interpolation(centres, side) -> np.ndarray:
    """(side, cells) float32: what each cell, at its centre, adds to each pixel."""
    cells = np.eye(len(centres))
    added = [np.interp(np.arange(side), centres, cell) for cell in cells]
    return np.stack(added, axis=1).astype("float32")


def _last_layer(model, maps, image) -> keras.layers.Layer:
    """The last layer or block with maps of enough cells to tell where something is."""
    fine = [found.layer for found in maps if min(found.shape[1:3]) >= FINE]
    for _, layer in _layers_from_the_top(model):
        if any(layer is other for other in fine):
            return layer
    raise ConfigError(
        f"No layer of {model.name!r} has maps of {FINE}x{FINE} cells or more for images of "
        f"{image[0]}x{image[1]} pixels. Name a layer, or take larger images."
    )


def _layers_from_the_top(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Layers and blocks by name, from the logits to the pixels, those of inner models too."""
    for layer in reversed(model.layers):
        if isinstance(layer, keras.Model):
            yield from _layers_from_the_top(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.abs(a).ravel(), np.abs(b).ravel()
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("Maps hold values that are not finite: did the training diverge?")
    constant = [np.ptp(values) == 0 for values in (a, b)]
    if any(constant):
        return float(all(constant))
    return float(spearmanr(a, b).statistic)


def _named_layer(model, name: str) -> keras.layers.Layer:
    found = [item for item in model._flatten_layers(include_self=False) if item.name == name]
    if len(found) != 1:
        problem = "has no layer" if not found else f"has {len(found)} layers"
        names = ", ".join(layer.name for layer in model.layers)
        raise ConfigError(f"{model.name!r} {problem} named {name!r}. It has: {names}")
    return found[0]
