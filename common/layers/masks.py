"""Which places may be looked at: all kinds of masks joined to one."""

import keras
from keras import ops


def join_masks(*, attention_mask=None, query_mask=None, value_mask=None, causal=None):
    """One mask of which places a query may look at, or `None` for all.

    Args:
        attention_mask: `(queries, values)`, `(batch, queries, values)` or
            `(batch, heads, queries, values)`, with 1 in place of a size it does not depend on.
        query_mask: `(batch, queries)`: which queries count.
        value_mask: `(batch, values)`: which values may be looked at.
        causal: `(queries, values)`, as from `causal_mask`.

    Returns:
        Bool `(batch, heads, queries, values)`, with 1 in place of a size it does not depend on.

    Raises:
        ValueError: if a mask is not bool (a mask of 0 and -1e9 would be read the wrong way round),
            or has another number of axes.
    """
    joined = None
    for name, mask, ranks, expand in (
        ("attention_mask", attention_mask, (2, 3, 4), _to_four_axes),
        ("query_mask", query_mask, (2,), lambda mask: mask[:, None, :, None]),
        ("value_mask", value_mask, (2,), lambda mask: mask[:, None, None]),
        ("causal", causal, (2,), _to_four_axes),
    ):
        if mask is None:
            continue
        require_bool(name, mask, ranks)
        mask = expand(ops.convert_to_tensor(mask))
        joined = mask if joined is None else ops.logical_and(joined, mask)
    return joined


def require_bool(name: str, mask, ranks: tuple[int, ...]) -> None:
    """Refuses what only looks like a mask, such as one of 0 and -1e9.

    Raises:
        ValueError: if it is not bool, or has another number of axes than one of `ranks`.
    """
    if keras.backend.standardize_dtype(mask.dtype) != "bool" or len(mask.shape) not in ranks:
        raise ValueError(
            f"`{name}` must be bool, true where something may be looked at, with "
            f"{' or '.join(map(str, ranks))} axes. Received: dtype {mask.dtype}, shape "
            f"{tuple(mask.shape)}"
        )


def causal_mask(queries: int, values: int):
    """Bool `(queries, values)`: query `i` may look at the values `0..i`."""
    return ops.arange(queries)[:, None] >= ops.arange(values)[None]


def masked_softmax(scores, mask=None):
    """Softmax over the last axis, in float32; places where `mask` is false get weight 0.

    Where there is nothing to look at, all places of the row get the same weight.
    """
    scores = ops.cast(scores, "float32")
    if mask is not None:
        scores = ops.where(mask, scores, -1e9)
    return ops.softmax(scores, axis=-1)


def masked_mean(x, mask=None):
    """Mean over the places of which `mask` is true.

    Args:
        x: `(batch, places, dim)`.
        mask: Bool `(batch, places)`, at least one of each row true; `None` for all places.

    Returns:
        `(batch, dim)`.

    Raises:
        ValueError: if the mask is not bool, or not of two axes.
    """
    if mask is None:
        return ops.mean(x, axis=1)
    require_bool("mask", mask, (2,))
    counted = ops.cast(mask, x.dtype)[..., None]
    return ops.sum(x * counted, axis=1) / ops.sum(counted, axis=1)


def _to_four_axes(mask):
    if len(mask.shape) == 4:
        return mask
    return mask[None, None] if len(mask.shape) == 2 else mask[:, None]
