"""Rungs 4 and 5 of the ladder: decoders of self-attention."""

from functools import partial

import keras
from keras import ops

from common.layers import MultiHeadAttention, PositionEmbedding, causal_mask
from common.models.captioning.base import Decoder


@keras.saving.register_keras_serializable("course")
class DecoderBlock(keras.layers.Layer):
    """One block of the self-attention decoders, normalised before each part.

    1. `x = x + dropout(SelfAttention(norm(x)))`: each word looks at the words up to itself.
    2. `x = x + dropout(ImageAttention(norm(x), regions))`.
    3. `x = x + dropout(W_2 gelu(W_1 norm(x)))`, word by word, with four times the width inside;
       left out without `feed_forward`. For ONNX set `widen.activation` to
       `0.5 * x * (1 + erf(x / sqrt(2)))`: tf2onnx does not know TensorFlow's exact GELU.

    Sources: Vaswani et al. (2017); for the place of the norms Xiong et al., "On Layer
    Normalization in the Transformer Architecture" (2020).

    Args:
        num_heads: Heads of both attentions; their size is `width / num_heads`.
        dropout: Share of the numbers set to 0 in training.
        seed: Of the dropout.
        feed_forward: Whether there is the third part.

    Call arguments:
        x: `(B * K, T, width)`.
        regions: `(B, N, width)`.

    Returns:
        `(B * K, T, width)` and the attention to the image `(B, h, K * T, N)`.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        feed_forward: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        self.feed_forward = feed_forward
        self.drops = [
            keras.layers.Dropout(dropout, seed=seed + i, dtype=self.dtype_policy)
            for i in range(self.parts)
        ]

    @property
    def parts(self) -> int:
        """How many parts there are, each with a norm and a dropout."""
        return 3 if self.feed_forward else 2

    def build(self, x_shape, regions_shape):
        width, policy = x_shape[-1], self.dtype_policy
        if width % self.num_heads:
            raise ValueError(
                f"The width must be a multiple of `num_heads`. Received: {width} and "
                f"num_heads={self.num_heads}"
            )
        shape = (None, None, width)
        attention = partial(
            MultiHeadAttention, self.num_heads, width // self.num_heads, dtype=policy
        )
        self.self_attention = attention(name="self_attention")
        self.image_attention = attention(name="image_attention")
        self.self_attention.build(shape, shape)
        self.image_attention.build(shape, regions_shape)
        self.norms = [
            keras.layers.LayerNormalization(dtype=policy, name=f"norm{i}")
            for i in range(self.parts)
        ]
        for norm in self.norms:
            norm.build(shape)
        if self.feed_forward:
            self.widen = keras.layers.Dense(4 * width, "gelu", dtype=policy, name="widen")
            self.narrow = keras.layers.Dense(width, dtype=policy, name="narrow")
            self.widen.build(shape)
            self.narrow.build((None, None, 4 * width))

    def call(self, x, regions, *, training=False):
        return self.decode(x, self.project(regions), training=training)

    def decode(self, x, image, region_mask=None, training=False):
        """As `call`, with the image from `project` and bool `(B, N)`, which regions are seen."""
        self_attention_norm, *_ = self.norms
        normed = self_attention_norm(x)
        mask = causal_mask(ops.shape(x)[1], ops.shape(x)[1])
        kept = self.self_attention.project(normed)
        return self._residuals(x, normed, *kept, mask, image, region_mask, training)

    def project(self, regions):
        """Keys and values of the image, `(B, h, N, d)` each: computed once for all steps."""
        return self.image_attention.project(regions)

    def step(self, x, image, region_mask, cache, time):
        """One word.

        Args:
            x: `(B * K, 1, width)`.
            image: From `project`.
            region_mask: Bool `(B, N)`, or `None` where no region is hidden.
            cache: Keys and values of the words so far, `(B * K, h, max_length, d)` each.
            time: int32 `(B * K,)`: the word's position.

        Returns:
            As `call`, and the cache with this word.
        """
        self_attention_norm, *_ = self.norms
        normed = self_attention_norm(x)
        places = ops.arange(cache[0].shape[2])[None, None, :, None]
        now = places == time[:, None, None, None]
        new = self.self_attention.project(normed)
        cache = tuple(ops.where(now, n, c) for n, c in zip(new, cache, strict=True))
        mask = places[:, 0, None, :, 0] <= time[:, None, None]  # (B * K, 1, max_length)
        return *self._residuals(x, normed, *cache, mask, image, region_mask, False), cache

    def _residuals(self, x, normed, keys, values, mask, image, region_mask, training):
        """The parts of the block, given what the words are to look at."""
        _, image_norm, *_ = self.norms
        drop_words, drop_image, *_ = self.drops
        attended, _ = self.self_attention.attend(normed, keys, values, mask)
        x = x + drop_words(attended, training=training)
        # All words of an image's captions ask about the same regions.
        time, width = ops.shape(x)[1], x.shape[2]
        query = ops.reshape(image_norm(x), (ops.shape(image[0])[0], -1, width))
        seen = None if region_mask is None else region_mask[:, None]  # (B, 1, N)
        attended, weights = self.image_attention.attend(query, *image, seen)
        x = x + drop_image(ops.reshape(attended, (-1, time, width)), training=training)
        if self.feed_forward:
            mlp_norm, drop_mlp = self.norms[-1], self.drops[-1]
            x = x + drop_mlp(self.narrow(self.widen(mlp_norm(x))), training=training)
        return x, weights

    def compute_output_shape(self, x_shape, regions_shape):
        return x_shape, (regions_shape[0], self.num_heads, None, regions_shape[1])

    def compute_output_spec(self, *args, **kwargs):
        # As traced: the attention is float32 under every policy.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "seed": self.seed,
            "feed_forward": self.feed_forward,
        }


@keras.saving.register_keras_serializable("course")
class SelfAttentionDecoder(Decoder):
    """Rungs 4 and 5: no recurrence; each word looks at all words before it and at the image.

    1. `x_t = word_t + P[t]`; regions get a vector of their place, too.
    2. `x = block(x, regions)`, `num_blocks` times, see `DecoderBlock`.
    3. Logits: `E norm(x_t)`.

    All steps of a training caption are computed at once. While generating, keys and values of
    the words so far are kept. Rung 4 has one head: one weighted mean per block, word and time.
    Rung 5 has several, which may look at several places at once.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Args:
        num_heads: Heads of each attention.
        num_blocks: Number of blocks.
        feed_forward: Whether blocks have their third part. One block without it is no deeper than
            an LSTM with attention.
        **kwargs: Those of `Decoder`.
    """

    has_places = True

    def __init__(
        self,
        vocabulary_size: int,
        num_heads: int = 4,
        num_blocks: int = 2,
        feed_forward: bool = True,
        **kwargs,
    ):
        super().__init__(vocabulary_size, **kwargs)
        if self.width % num_heads:
            raise ValueError(
                "`width` must be a multiple of `num_heads`. "
                f"Received: width={self.width}, num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.num_blocks = num_blocks
        self.feed_forward = feed_forward
        self.positions = self._made(PositionEmbedding, self.max_length, name="positions")
        block = partial(self._made, DecoderBlock, num_heads, self.dropout)
        self.blocks = [
            block(self.seed + 10 * i, feed_forward, name=f"block{i}")
            for i in range(1, num_blocks + 1)
        ]
        self.norm = self._made(keras.layers.LayerNormalization, name="norm")

    def build_decoder(self, regions):
        shape = (None, None, self.width)
        self.positions.build(shape)
        for block in self.blocks:
            block.build(shape, (None, regions, self.width))
        self.norm.build(shape)

    def encode(self, features, training=False, region_mask=None):
        image = super().encode(features, training, region_mask)
        regions = image.pop("regions")
        # By name: a loop on JAX gives a dict back in alphabetical order.
        return {**image, **{block.name: block.project(regions) for block in self.blocks}}

    def initial_state(self, image, captions):
        batch, heads, _, size = ops.shape(image[self.blocks[0].name][0])
        rows = batch * captions
        empty = ops.zeros((rows, heads, self.max_length, size), self.compute_dtype)
        caches = {block.name: (empty, empty) for block in self.blocks}
        return {"time": ops.zeros((rows,), "int32"), **caches}

    def decode(self, words, image, training):
        x, region_mask, looked = self.positions(words), image.get("region_mask"), []
        for block in self.blocks:
            x, weights = block.decode(x, image[block.name], region_mask, training)
            looked.append(weights)
        return self._logits(x, training), self._by_word(looked, ops.shape(words)[1])

    def decode_step(self, words, state):
        image, before = state["image"], state["words"]
        time, region_mask = before["time"], image.get("region_mask")
        after = {"time": time + 1}
        # Every caption is at the same word.
        x, looked = self.positions(words[:, None], start=time[0]), []
        for block in self.blocks:
            name = block.name
            x, weights, after[name] = block.step(x, image[name], region_mask, before[name], time)
            looked.append(weights)
        return self._logits(x)[:, 0], after, self._by_word(looked, 1)[:, 0]

    def _by_word(self, looked, time):
        """Attention `(B, h, K * T, N)` of each block to `(B * K, T, blocks, h, N)`."""
        attention = ops.transpose(ops.stack(looked, axis=1), (0, 3, 1, 2, 4))
        return ops.reshape(attention, (-1, time, *attention.shape[2:]))

    def _logits(self, x, training=False):
        return self.embedding.logits(self.drop_output(self.norm(x), training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_blocks": self.num_blocks,
            "feed_forward": self.feed_forward,
        }
