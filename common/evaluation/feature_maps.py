"""The feature maps of a network, and where in the image their cells lie.

A map stretched over the image misplaces its cells. Three poolings by floor make 3 cells of 31
pixels, 8 pixels each: stretched, the last one lies 6 pixels too far to the right. Here a cell lies
at the centre of the pixels that it sees (its receptive field, borders aside), which follows from
the kernels, strides and paddings on the way: Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks" (2019).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from common.layers import ResidualBlock


@dataclass(frozen=True)
class FeatureMap:
    """What a layer puts out in one call.

    Attributes:
        layer: Itself.
        source: Height and width of the map that it takes; `None` if it takes no map.
        shape: (N, h, w, C), of the output.
        dtype: Of the output.
    """

    layer: keras.layers.Layer
    source: tuple[int, int] | None
    shape: tuple[int, int, int, int]
    dtype: str


def feature_maps(model: keras.Model, images: np.ndarray) -> list[FeatureMap]:
    """All outputs (N, h, w, C) of layers, inner ones too, in the order in which they are computed.

    None is computed: Keras derives their shapes.

    Args:
        model: Takes the images.
        images: (N, H, W, channels).
    """
    found = []
    forward = keras.Operation()
    forward.call = functools.partial(model, training=False)
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers(include_self=False):
            stack.enter_context(changed_output(layer, _recorder(layer, found)))
        forward(keras.KerasTensor(images.shape, str(images.dtype)))
    return found


def cell_centres(
    maps: Sequence[FeatureMap], size: tuple[int, int], image: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the cells of all maps of a size lie: the rows (h,) and the columns (w,), in pixels.

    The first pixel of the image is 0; between cells there is always one stride. For cell `i`:

    1. In the image, it is pixel `i`.
    2. A convolution or pooling that changes the size has taken the cells from `stride i - padding`
       on, `kernel` of them: their middle counts. "Same" padding is different for even and odd
       sides.
    3. Where several layers lead to maps of one size, it is the mean. A block of stride 2 sees
       pixels `2i..2i+2` of an even side by its convolution, and `2i` by its shortcut.
    4. Maps of a size that no such layer made lie evenly on the image, as after a resizing.

    Layers that keep the size move nothing.

    Args:
        maps: All of the model, see `feature_maps`.
        size: (h, w) of the map.
        image: (H, W).
    """
    offset, stride = _grid(maps, tuple(size), tuple(image))
    rows, columns = (o + s * np.arange(n) for o, s, n in zip(offset, stride, size, strict=True))
    return rows, columns


@contextlib.contextmanager
def changed_output(layer: keras.layers.Layer, change: Callable) -> Iterator[None]:
    """Within, the layer gives `change(output, *inputs)` instead of its output."""
    call = layer.call
    layer.call = lambda *args, **kwargs: change(call(*args, **kwargs), *args)
    try:
        yield
    finally:
        del layer.call  # uncovers the method of the class


def _recorder(layer, found) -> Callable:
    def record(output, inputs=None, *_):
        source, shape = (tuple(getattr(tensor, "shape", ())) for tensor in (inputs, output))
        if len(shape) == 4:
            dtype = keras.backend.standardize_dtype(output.dtype)
            found.append(FeatureMap(layer, source[1:3] if len(source) == 4 else None, shape, dtype))
        return output

    return record


def _grid(maps, size, image) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the first cell, and the step from one to the next: (2,) each, in pixels."""
    if size == image:
        return np.zeros(2), np.ones(2)
    grids = []
    for made in maps:
        window = _window(made) if made.shape[1:3] == size else None
        if window is not None:
            (middle, stride), (offset, step) = window, _grid(maps, made.source, image)
            grids.append((offset + step * middle, step * stride))
    if not grids:
        step = np.divide(image, size)
        return (step - 1) / 2, step
    offset, step = np.mean(grids, axis=0)
    return offset, step


def _window(made: FeatureMap) -> tuple[np.ndarray, np.ndarray] | None:
    """Middle of the first window and stride, (2,) each, in cells of the map that a layer takes.

    `None` if it makes no smaller map of it by such windows.
    """
    layer, source, size = made.layer, made.source, made.shape[1:3]
    if source is None or source == size or np.less(source, size).any():
        return None
    kernel = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    stride, padding = getattr(layer, "strides", 1), getattr(layer, "padding", "valid")
    if isinstance(layer, ResidualBlock) and layer.residual and layer.projection is None:
        kernel, stride = 1, layer.stride  # shortcut "A", which is no layer
    if kernel is None:
        return None
    reach = (np.broadcast_to(kernel, 2) - 1) * getattr(layer, "dilation_rate", 1)
    stride = np.broadcast_to(stride, 2)
    before = np.zeros(2)
    if padding == "same":
        before = np.maximum(stride * np.subtract(size, 1) + reach + 1 - source, 0) // 2
    return reach / 2 - before, stride
