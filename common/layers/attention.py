"""Attention: weighted means whose weights depend on what is asked."""

import math

import keras
from keras import ops

from common.layers.linear import as_float, linear, refuse_symbolic
from common.layers.masks import causal_mask, join_masks, masked_softmax, require_bool


class _Attention(keras.layers.Layer):
    """What both kinds share: masks are kept and honoured, symbolic outputs are as the real ones."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def _check(self, **tensors) -> None:
        for name, x in tensors.items():
            if len(x.shape) != 3:
                raise ValueError(
                    f"`{name}` must have three axes, (batch, places, dim). Received: shape "
                    f"{tuple(x.shape)}"
                )

    def compute_output_spec(self, *args, **kwargs):
        # As traced: with the weights where they are given, each in its precision.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)


@keras.saving.register_keras_serializable("course")
class BahdanauAttention(_Attention):
    """Additive attention: a small network compares each query with each value.

    1. Keys: `k_j = W_k v_j`, `(batch, values, units)`; they are the same for every query.
    2. Scores: `e_ij = w . tanh(W_q q_i + k_j + b)`, `(batch, queries, values)`.
    3. Weights: `a_i = softmax_j(e_ij)`: positive, with sum 1.
    4. Context: `c_i = sum_j a_ij v_j`, `(batch, queries, dim)`.

    Source: Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and
    Translate" (2015). `keras.layers.AdditiveAttention` lacks `W_q` and `W_k`, and takes a list.

    Args:
        units: Size of the space in which queries and values are compared.

    Call arguments:
        query: `(batch, queries, query_dim)`.
        value: `(batch, values, dim)`.
        keys: What `project(value)` gave, to save computing it for every step; optional.
        query_mask, value_mask: Bool `(batch, queries)` and `(batch, values)`: which queries count
            (the context of the others is 0), and which values may be looked at; by default what
            they bring along, as from `keras.layers.Embedding(mask_zero=True)`.

    Returns:
        Context `(batch, queries, dim)` and weights, float32 `(batch, queries, values)`.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}")
        self.units = units

    def build(self, query_shape, value_shape):
        def weight(name, shape, initializer="glorot_uniform"):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.query_kernel = weight("query_kernel", (query_shape[-1], self.units))
        self.key_kernel = weight("key_kernel", (value_shape[-1], self.units))
        self.bias = weight("bias", (self.units,), "zeros")
        self.score_kernel = weight("score_kernel", (self.units, 1))

    def project(self, value):
        """The keys of `value`: `(batch, values, units)`."""
        refuse_symbolic(self, "project", "Leave `keys` out.", value)
        return linear(value, self.key_kernel)

    def call(self, query, value, *, keys=None, query_mask=None, value_mask=None):
        self._check(query=query, value=value)
        value = as_float(value, self.compute_dtype)
        keys = self.project(value) if keys is None else keys
        queries = linear(query, self.query_kernel, self.bias)
        compared = ops.tanh(queries[:, :, None] + keys[:, None])  # (batch, queries, values, units)
        scores = ops.squeeze(linear(compared, self.score_kernel), -1)
        mask = join_masks(value_mask=value_mask)
        weights = masked_softmax(scores, None if mask is None else mask[:, 0])
        context = ops.matmul(ops.cast(weights, value.dtype), value)
        if query_mask is not None:
            require_bool("query_mask", query_mask, (2,))
            context = ops.where(query_mask[..., None], context, ops.zeros_like(context))
        return context, weights

    def compute_output_shape(self, query_shape, value_shape):
        batch, queries, _ = query_shape
        return (batch, queries, value_shape[-1]), (batch, queries, value_shape[1])

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("course")
class MultiHeadAttention(_Attention):
    """Scaled dot-product attention, several times side by side; with one head, the plain kind.

    1. Project: `Q = X W_q + b_q`, `K = V W_k + b_k`, `U = V W_v + b_v`, each cut into `h` heads of
       size `d`: `(batch, h, queries or values, d)`.
    2. Weights: `A = softmax(Q K^T / sqrt(d))`, `(batch, h, queries, values)`. Without the root,
       long vectors would make large scores, and the softmax would pick one place and not learn.
    3. Each head's mean `A U`; all side by side, `(batch, queries, h * d)`.
    4. `output = mean W_o + b_o`, `(batch, queries, dim)`.

    Source: Vaswani et al., "Attention Is All You Need" (2017). `keras.layers.MultiHeadAttention`
    takes other keys than values, and any axes.

    Args:
        num_heads: Number of heads `h`.
        key_dim: Size `d` of each.
        dropout: Share of the weights set to 0 in training.
        seed: Of the dropout.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, values, value_dim)`.
        attention_mask: Bool `(queries, values)`, `(batch, queries, values)` or `(batch, h, queries,
            values)`: what may be looked at.
        query_mask, value_mask: Bool `(batch, queries)` and `(batch, values)`: which of them count;
            by default what they bring along, as from `keras.layers.Embedding(mask_zero=True)`.
        use_causal_mask: Whether query `i` sees the values `0..i` only.
        return_attention_scores: Whether to give the weights, too.

    Returns:
        `(batch, queries, dim)`; and the weights, float32 `(batch, h, queries, values)`, if asked
        for.
    """

    def __init__(self, num_heads: int, key_dim: int, dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if num_heads < 1 or key_dim < 1:
            raise ValueError(
                "`num_heads` and `key_dim` must be at least 1. "
                f"Received: num_heads={num_heads}, key_dim={key_dim}"
            )
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.dropout = dropout
        self.seed = seed
        self.drop = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)

    def build(self, query_shape, value_shape):
        width, dim = self.num_heads * self.key_dim, query_shape[-1]
        for name, rows, columns in (
            ("query", dim, width),
            ("key", value_shape[-1], width),
            ("value", value_shape[-1], width),
            ("output", width, dim),
        ):
            kernel = self.add_weight(name=f"{name}_kernel", shape=(rows, columns))
            bias = self.add_weight(name=f"{name}_bias", shape=(columns,), initializer="zeros")
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_bias", bias)

    def _heads(self, x):
        """`(batch, n, h * d)` to `(batch, h, n, d)`."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, self.key_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def project(self, value):
        """Keys and values of what is looked at, each `(batch, h, values, d)`, to be kept."""
        refuse_symbolic(self, "project", "Call the layer.", value)
        keys = linear(value, self.key_kernel, self.key_bias)
        values = linear(value, self.value_kernel, self.value_bias)
        return self._heads(keys), self._heads(values)

    def attend(self, query, keys, values, mask=None, training=False):
        """Looks at projected keys and values: gives the output and the weights.

        `mask` is as `attention_mask` in `call`.
        """
        refuse_symbolic(self, "attend", "Call the layer.", query)
        # Scaling the queries is the same as scaling the scores, and cheaper.
        queries = linear(query, self.query_kernel, self.query_bias) / math.sqrt(self.key_dim)
        scores = ops.matmul(self._heads(queries), ops.transpose(keys, (0, 1, 3, 2)))
        weights = masked_softmax(scores, join_masks(attention_mask=mask))
        kept = self.drop(ops.cast(weights, values.dtype), training=training)
        heads = ops.transpose(ops.matmul(kept, values), (0, 2, 1, 3))  # (batch, queries, h, d)
        width = self.num_heads * self.key_dim
        joined = ops.reshape(heads, (-1, ops.shape(query)[1], width))
        return linear(joined, self.output_kernel, self.output_bias), weights

    def call(
        self,
        query,
        value,
        *,
        attention_mask=None,
        query_mask=None,
        value_mask=None,
        use_causal_mask=False,
        return_attention_scores=False,
        training=False,
    ):
        self._check(query=query, value=value)
        causal = None
        if use_causal_mask:
            causal = causal_mask(ops.shape(query)[1], ops.shape(value)[1])
        mask = join_masks(
            attention_mask=attention_mask,
            query_mask=query_mask,
            value_mask=value_mask,
            causal=causal,
        )
        output, weights = self.attend(query, *self.project(value), mask, training)
        return (output, weights) if return_attention_scores else output

    def compute_output_shape(self, query_shape, value_shape):
        return query_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "dropout": self.dropout,
            "seed": self.seed,
        }
