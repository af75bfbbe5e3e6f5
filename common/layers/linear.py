"""The product that all layers share."""

from keras import ops


def linear(x, kernel, bias=None):
    """`x W + b` in the precision of `x`.

    Keras casts weights inside a layer's `call` only; methods called by themselves need this.

    Args:
        x: `(..., dim)`.
        kernel: `(dim, units)`.
        bias: `(units,)` or `None`.
    """
    y = ops.matmul(x, ops.cast(kernel, x.dtype))
    return y if bias is None else y + ops.cast(bias, x.dtype)
