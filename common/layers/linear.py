"""The product that all layers share."""

import keras
from keras import ops


def linear(x, kernel, bias=None):
    """`x W + b` in the precision of `x`, or of the kernel where `x` holds integers.

    Keras casts weights inside a layer's `call` only; methods called by themselves need this.

    Args:
        x: `(..., dim)`.
        kernel: `(dim, units)`.
        bias: `(units,)` or `None`.
    """
    x = as_float(x, kernel.dtype)
    y = ops.matmul(x, ops.cast(kernel, x.dtype))
    return y if bias is None else y + ops.cast(bias, x.dtype)


def as_float(x, dtype):
    """`x` itself if it holds floats, else `x` in `dtype`."""
    is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
    return x if is_float else ops.cast(x, dtype)


def refuse_symbolic(layer, method: str, instead: str, *tensors) -> None:
    """For methods beside `call`: in a functional model their weights would not learn.

    Raises:
        ValueError: if a tensor is a `KerasTensor`.
    """
    if any(keras.backend.is_keras_tensor(x) for x in tensors):
        raise ValueError(
            f"`{type(layer).__name__}.{method}` takes no KerasTensor: a functional model would not "
            f"train its weights. {instead}"
        )
