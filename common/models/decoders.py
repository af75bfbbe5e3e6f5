"""Five decoders that tell what an image shows, on one ladder, each a step above the one before.

All of them take features of image regions and the words so far, and give logits of the next word:

- `start(features) -> state`: looks at the image once.
- `step(tokens, state) -> logits, state, attention`: one word further, for generating.
- `call({"features": ..., "tokens": ...}) -> logits`: all steps at once from given words, for
  teacher forcing.

A state has two parts: `state["image"]`, the same for all captions of an image, and
`state["words"]`, whose arrays have a row per caption. The shapes never change between steps.
"""

from functools import partial

import keras
from keras import ops

from common.errors import ConfigError
from common.layers import (
    BahdanauAttention,
    LSTMCell,
    MultiHeadAttention,
    PositionEmbedding,
    SimpleRNNCell,
    TiedEmbedding,
    causal_mask,
)


class Decoder(keras.Model):
    """What the five decoders share. `B` images, `K` captions each, `T` words, `N` regions.

    Args:
        vocabulary_size: Number of words, the special ones included.
        width: Size of the vectors of words and of image regions.
        dropout: Share of the numbers set to 0 in training.
        max_length: The most words of a caption, `<start>` or `<end>` included.
        region_dropout: Share of the image's regions hidden in training, each as a whole.
        places_std: Standard deviation of the regions' places at first, for decoders with attention.
            A region's own vector has 1: from 0, places are learned late.
        vector_dim: Size of word vectors from elsewhere, which `embedding.set_vectors` takes once
            the decoder is built; `None` for words that are learned from random numbers.
        vector_mode: What is learned of such vectors, see `TiedEmbedding`.
        seed: Of the dropout (the weights come from Keras's global seed).

    Call arguments:
        features: `(B, N, channels)`, as a backbone gives them; or both inputs in a dict with the
            keys "features" and "tokens", or in a list, as `fit`, `predict` and `export` want them.
        tokens: int32 `(B, T)`, or `(B, K, T)` for several captions of each image, which is then
            looked at once only. They begin with `<start>`.
        return_attention: Whether to give the attention, too.

    Returns:
        Logits of the words that follow, float32 `(B, [K,] T, vocabulary)`; and the attention
        `(B, [K,] T, N)` if asked for, `None` where a decoder has none.
    """

    # Whether each region gets a learned vector that tells where it is.
    has_places = False

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 256,
        dropout: float = 0.3,
        max_length: int = 24,
        region_dropout: float = 0.0,
        places_std: float = 0.5,
        vector_dim: int | None = None,
        vector_mode: str = "tuned",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.width = width
        self.dropout = dropout
        self.max_length = max_length
        self.region_dropout = region_dropout
        self.places_std = places_std
        self.vector_dim = vector_dim
        self.vector_mode = vector_mode
        self.seed = seed
        self.embedding = self._made(
            TiedEmbedding, vocabulary_size, width, vector_dim, vector_mode, name="embedding"
        )
        self.regions = self._made(keras.layers.Dense, width, name="regions")
        self.regions_norm = self._made(keras.layers.LayerNormalization, name="regions_norm")
        self.drop_regions = self._made(keras.layers.Dropout, dropout, seed=seed + 1)
        self.drop_words = self._made(keras.layers.Dropout, dropout, seed=seed + 2)
        self.drop_output = self._made(keras.layers.Dropout, dropout, seed=seed + 3)
        self.hide_regions = self._made(
            keras.layers.Dropout, region_dropout, noise_shape=(None, None, 1), seed=seed + 4
        )

    def _made(self, layer_class, *arguments, **options):
        """A layer in the decoder's own precision."""
        return layer_class(*arguments, dtype=self.dtype_policy, **options)

    def build(self, features_shape, tokens_shape=None):
        if isinstance(features_shape, dict) or isinstance(features_shape[0], (list, tuple)):
            features_shape, _ = _both(features_shape, tokens_shape)
        self.embedding.build()
        self.regions.build((None, None, features_shape[-1]))
        self.regions_norm.build((None, None, self.width))
        if self.has_places:
            self.places = self.add_weight(
                name="places",
                shape=(features_shape[1], self.width),
                initializer=keras.initializers.RandomNormal(stddev=self.places_std),
            )
        self.build_words(features_shape[1])
        self.built = True

    def build_words(self, regions: int) -> None:
        """Builds what a subclass adds, for so many image regions."""
        raise NotImplementedError

    def look(self, features, training=False):
        """What the decoder keeps of the image: a dict of arrays that begin with `B`."""
        seen = self.hide_regions(ops.cast(features, self.compute_dtype), training=training)
        regions = self.regions_norm(self.regions(seen))
        regions = self.drop_regions(regions, training=training)
        if self.has_places:
            regions = regions + ops.cast(self.places, regions.dtype)
        return {"regions": regions}

    def first_words(self, image, captions: int) -> dict:
        """The state of the words before the first one: a dict of arrays with `B * K` rows."""
        raise NotImplementedError

    def teach(self, words, image, training):
        """`words` (B * K, T, width) to logits (B * K, T, vocabulary) and attention, or `None`."""
        raise NotImplementedError

    def advance(self, words, state):
        """`words` (B * K, width) to logits (B * K, vocabulary), state of the words, attention."""
        raise NotImplementedError

    def start(self, features, captions: int = 1) -> dict:
        """The state before the first word, for `captions` captions of each image."""
        image = self.look(features)
        return {"image": image, "words": self.first_words(image, captions)}

    def step(self, tokens, state):
        """One word further.

        Args:
            tokens: int32 `(B * K,)`: the last words, at first `<start>`.
            state: From `start` or the last `step`.

        Returns:
            Logits float32 `(B * K, vocabulary)`, the new state, and the attention `(B * K, N)`
            or `None`.
        """
        logits, words, attention = self.advance(self.embedding(tokens), state)
        return logits, {"image": state["image"], "words": words}, attention

    def call(self, features, tokens=None, training=False, return_attention=False):
        features, tokens = _both(features, tokens)
        if len(features.shape) != 3 or len(tokens.shape) not in (2, 3):
            raise ValueError(
                "Wanted features (B, N, channels) and tokens (B, T) or (B, K, T). Received: shapes "
                f"{tuple(features.shape)} and {tuple(tokens.shape)}"
            )
        single = len(tokens.shape) == 2
        captions, time = (1 if single else ops.shape(tokens)[1]), ops.shape(tokens)[-1]
        words = self.embedding(ops.reshape(tokens, (-1, time)))
        words = self.drop_words(words, training=training)
        image = self.look(features, training)
        logits, attention = self.teach(words, image, training)

        def unfold(x):
            shape = (-1, time) if single else (-1, captions, time)
            return ops.reshape(x, (*shape, x.shape[-1]))

        if return_attention:
            return unfold(logits), None if attention is None else unfold(attention)
        return unfold(logits)

    def get_config(self):
        # Not `keras.Model`'s own: it knows the arguments of functional models only.
        return {
            "name": self.name,
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "dropout": self.dropout,
            "max_length": self.max_length,
            "region_dropout": self.region_dropout,
            "places_std": self.places_std,
            "vector_dim": self.vector_dim,
            "vector_mode": self.vector_mode,
            "seed": self.seed,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        frozen = config.pop("frozen", ())
        made = cls(**config)
        for layer in made.layers:
            layer.trainable = layer.name not in frozen
        return made


class RecurrentDecoder(Decoder):
    """A recurrent network that is told of the image once, before the first word.

    1. Image: `v = mean of the regions`, `(B, width)`; first state `h_0 = tanh(W v + b)`.
    2. Each word: `h_t, state = cell(word_t, state)`, `(B * K, units)`.
    3. Logits: `E (W h_t + b)`, with the word vectors `E` again.

    All that it will ever know of the image has to pass through the state, which the words change
    at every step.

    Source: as in Vinyals et al., "Show and Tell" (2015), with the image as the first state.

    Args:
        units: Size of the state.
        **kwargs: Those of `Decoder`.
    """

    cell_class = None

    def __init__(self, vocabulary_size: int, units: int = 512, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        self.units = units
        self.cell = self._made(self.cell_class, units, name="cell")
        self.states = 2 if isinstance(self.cell.state_size, list) else 1
        self.first_state = self._made(
            keras.layers.Dense, units * self.states, "tanh", name="first_state"
        )
        self.output_words = self._made(keras.layers.Dense, self.width, name="output_words")

    def build_words(self, regions):
        self.cell.build((None, self.width))
        self.first_state.build((None, self.width))
        self.output_words.build((None, self.units))

    def first_words(self, image, captions):
        first = self.first_state(ops.mean(image["regions"], axis=1))
        first = ops.repeat(first, captions, axis=0)
        names = ("h", "c")[: self.states]
        return dict(zip(names, ops.split(first, self.states, axis=-1), strict=True))

    def _cell_step(self, projected, states):
        # By name: a loop on JAX gives a dict back in alphabetical order.
        names = ("h", "c")[: self.states]
        _, new = self.cell.step(projected, [states[name] for name in names])
        return dict(zip(names, new, strict=True))

    def teach(self, words, image, training):
        captions = ops.shape(words)[0] // ops.shape(image["regions"])[0]

        def one_word(states, projected):
            states = self._cell_step(projected, states)
            return states, (states["h"],)

        first = self.first_words(image, captions)
        (outputs,) = _over_time(one_word, first, self.cell.project(words))
        return self._logits(outputs, training), None

    def advance(self, words, state):
        states = self._cell_step(self.cell.project(words), state["words"])
        return self._logits(states["h"]), states, None

    def _logits(self, h, training=False):
        h = self.drop_output(h, training=training)
        return self.embedding.logits(self.output_words(h))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("course")
class RNNDecoder(RecurrentDecoder):
    """Rung 1: `RecurrentDecoder` with the simple recurrent cell."""

    cell_class = SimpleRNNCell


@keras.saving.register_keras_serializable("course")
class LSTMDecoder(RecurrentDecoder):
    """Rung 2: `RecurrentDecoder` with an LSTM, which keeps what it needs for longer."""

    cell_class = LSTMCell


@keras.saving.register_keras_serializable("course")
class AttentionLSTMDecoder(LSTMDecoder):
    """Rung 3: an LSTM that looks at the image again before each word, where it chooses.

    1. Regions get a learned vector of their place. First state from their mean, as on rung 2.
    2. Where to look: `z_t, a_t = BahdanauAttention(h_{t-1}, regions)`: context `(B * K, width)`
       and weights `(B * K, N)`.
    3. How much it matters: `z_t = sigmoid(W h_{t-1} + b) * z_t`, a gate per number: "of" needs no
       image.
    4. `h_t, c_t = LSTM([word_t, z_t], h_{t-1}, c_{t-1})`.
    5. Logits: `E (W_w word_t + W_h h_t + W_z z_t + b)`.

    Source: Xu et al., "Show, Attend and Tell" (2015).
    """

    has_places = True

    def __init__(self, vocabulary_size: int, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        self.attention = self._made(BahdanauAttention, self.width, name="attention")
        self.gate = self._made(keras.layers.Dense, self.width, "sigmoid", name="gate")
        plain = partial(self._made, keras.layers.Dense, use_bias=False)
        # The LSTM's input matrix in two parts, since the words' part can be had for all steps.
        self.context_input = plain(4 * self.units, name="context_input")
        self.context_output = plain(self.width, name="context_output")
        self.word_output = plain(self.width, name="word_output")

    def build_words(self, regions):
        super().build_words(regions)
        self.attention.build((None, None, self.units), (None, regions, self.width))
        self.gate.build((None, self.units))
        self.context_input.build((None, self.width))
        self.context_output.build((None, self.width))
        self.word_output.build((None, self.width))

    def look(self, features, training=False):
        image = super().look(features, training)
        return {**image, "keys": self.attention.project(image["regions"])}

    def _attend(self, projected, states, image):
        """One step: new states, context `(B * K, width)`, attention `(B * K, N)`."""
        regions = image["regions"]
        h = states["h"]
        query = ops.reshape(h, (ops.shape(regions)[0], -1, self.units))
        context, attention = self.attention(query, regions, keys=image["keys"])
        context = ops.reshape(context, (-1, self.width)) * self.gate(h)
        states = self._cell_step(projected + self.context_input(context), states)
        return states, context, ops.reshape(attention, (-1, regions.shape[1]))

    def teach(self, words, image, training):
        captions = ops.shape(words)[0] // ops.shape(image["regions"])[0]

        def one_word(states, projected):
            states, context, attention = self._attend(projected, states, image)
            return states, (states["h"], context, attention)

        first = self.first_words(image, captions)
        h, context, attention = _over_time(one_word, first, self.cell.project(words))
        return self._deep_logits(words, h, context, training), attention

    def advance(self, words, state):
        projected = self.cell.project(words)
        states, context, attention = self._attend(projected, state["words"], state["image"])
        return self._deep_logits(words, states["h"], context), states, attention

    def _deep_logits(self, words, h, context, training=False):
        x = self.word_output(words) + self.output_words(h) + self.context_output(context)
        return self.embedding.logits(self.drop_output(x, training=training))


@keras.saving.register_keras_serializable("course")
class DecoderBlock(keras.layers.Layer):
    """One block of the self-attention decoders, normalised before each part.

    1. `x = x + dropout(SelfAttention(norm(x)))`: each word looks at the words up to itself.
    2. `x = x + dropout(ImageAttention(norm(x), regions))`.
    3. `x = x + dropout(W_2 gelu(W_1 norm(x)))`, word by word, with four times the width inside.

    Sources: Vaswani et al. (2017); for the place of the norms Xiong et al., "On Layer
    Normalization in the Transformer Architecture" (2020).

    Args:
        num_heads: Heads of both attentions; their size is `width / num_heads`.
        dropout: Share of the numbers set to 0 in training.
        seed: Of the dropout.

    Call arguments:
        x: `(B * K, T, width)`.
        regions: `(B, N, width)`.

    Returns:
        `(B * K, T, width)` and the attention to the image `(B, h, K * T, N)`.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        self.drops = [
            keras.layers.Dropout(dropout, seed=seed + i, dtype=self.dtype_policy) for i in range(3)
        ]

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
            keras.layers.LayerNormalization(dtype=policy, name=f"norm{i}") for i in range(3)
        ]
        for norm in self.norms:
            norm.build(shape)
        self.widen = keras.layers.Dense(4 * width, "gelu", dtype=policy, name="widen")
        self.narrow = keras.layers.Dense(width, dtype=policy, name="narrow")
        self.widen.build(shape)
        self.narrow.build((None, None, 4 * width))

    def call(self, x, regions, training=False):
        return self.teach(x, self.project(regions), training)

    def teach(self, x, image, training=False):
        """As `call`, with the image from `project`."""
        normed = self.norms[0](x)
        mask = causal_mask(ops.shape(x)[1], ops.shape(x)[1])
        kept = self.self_attention.project(normed)
        return self._rest(x, normed, *kept, mask, image, training)

    def project(self, regions):
        """Keys and values of the image, `(B, h, N, d)` each: computed once for all steps."""
        return self.image_attention.project(regions)

    def step(self, x, image, cache, time):
        """One word.

        Args:
            x: `(B * K, 1, width)`.
            image: From `project`.
            cache: Keys and values of the words so far, `(B * K, h, max_length, d)` each.
            time: int32 `(B * K,)`: the word's position.

        Returns:
            As `call`, and the cache with this word.
        """
        normed = self.norms[0](x)
        places = ops.arange(cache[0].shape[2])[None, None, :, None]
        now = places == time[:, None, None, None]
        new = self.self_attention.project(normed)
        cache = tuple(ops.where(now, n, c) for n, c in zip(new, cache, strict=True))
        mask = places[:, 0, None, :, 0] <= time[:, None, None]  # (B * K, 1, max_length)
        return *self._rest(x, normed, *cache, mask, image, False), cache

    def _rest(self, x, normed, keys, values, mask, image, training):
        attended, _ = self.self_attention.attend(normed, keys, values, mask, training)
        x = x + self.drops[0](attended, training=training)
        # All words of an image's captions ask about the same regions.
        time, width = ops.shape(x)[1], x.shape[2]
        query = ops.reshape(self.norms[1](x), (ops.shape(image[0])[0], -1, width))
        attended, weights = self.image_attention.attend(query, *image, training=training)
        x = x + self.drops[1](ops.reshape(attended, (-1, time, width)), training=training)
        hidden = self.narrow(self.widen(self.norms[2](x)))
        return x + self.drops[2](hidden, training=training), weights

    def compute_output_shape(self, x_shape, regions_shape):
        return x_shape, (regions_shape[0], self.num_heads, None, regions_shape[1])

    def get_config(self):
        config = {"num_heads": self.num_heads, "dropout": self.dropout, "seed": self.seed}
        return {**super().get_config(), **config}


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
        **kwargs: Those of `Decoder`.
    """

    has_places = True

    def __init__(self, vocabulary_size: int, num_heads: int = 4, num_blocks: int = 2, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        if self.width % num_heads:
            raise ValueError(
                "`width` must be a multiple of `num_heads`. "
                f"Received: width={self.width}, num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.num_blocks = num_blocks
        self.positions = self._made(PositionEmbedding, self.max_length, name="positions")
        self.blocks = [
            self._made(DecoderBlock, num_heads, self.dropout, self.seed + 10 * i, name=f"block{i}")
            for i in range(1, num_blocks + 1)
        ]
        self.norm = self._made(keras.layers.LayerNormalization, name="norm")

    def build_words(self, regions):
        shape = (None, None, self.width)
        self.positions.build(shape)
        for block in self.blocks:
            block.build(shape, (None, regions, self.width))
        self.norm.build(shape)

    def look(self, features, training=False):
        regions = super().look(features, training)["regions"]
        return {f"block{i}": block.project(regions) for i, block in enumerate(self.blocks)}

    def first_words(self, image, captions):
        batch, heads, _, size = ops.shape(image["block0"][0])
        rows = batch * captions
        empty = ops.zeros((rows, heads, self.max_length, size), self.compute_dtype)
        caches = {name: (empty, empty) for name in image}
        return {"time": ops.zeros((rows,), "int32"), **caches}

    def teach(self, words, image, training):
        x = self.positions(words)
        for name, block in zip(image, self.blocks, strict=True):
            x, weights = block.teach(x, image[name], training)
        logits = self._logits(x, training)
        # (B, h, K * T, N) to (B * K, T, N)
        time = ops.shape(words)[1]
        attention = ops.reshape(ops.mean(weights, axis=1), (-1, time, weights.shape[-1]))
        return logits, attention

    def advance(self, words, state):
        image, before = state["image"], state["words"]
        time = before["time"]
        after = {"time": time + 1}
        # Every caption is at the same word.
        x = self.positions(words[:, None], start=time[0])
        for name, block in zip(image, self.blocks, strict=True):
            x, weights, after[name] = block.step(x, image[name], before[name], time)
        attention = ops.reshape(ops.mean(weights, axis=1), (-1, weights.shape[-1]))
        return self._logits(x)[:, 0], after, attention

    def _logits(self, x, training=False):
        return self.embedding.logits(self.drop_output(self.norm(x), training=training))

    def get_config(self):
        config = {"num_heads": self.num_heads, "num_blocks": self.num_blocks}
        return {**super().get_config(), **config}


def _both(inputs, tokens):
    """Features and tokens, or their shapes, in whatever form they are given."""
    if tokens is not None:
        return inputs, tokens
    if isinstance(inputs, dict):
        return inputs["features"], inputs["tokens"]
    return inputs


def _over_time(step, states, inputs):
    """What `step(states, input) -> states, outputs` gives for each time of `(rows, T, dim)`.

    Returns:
        The outputs, `(rows, T, ...)` each.
    """
    if inputs.shape[1] is None:

        def both(before, x):
            after = step(before[0], x)
            return after, after

        # What a scan hands on and what it collects have to be alike.
        first = states, step(states, inputs[:, 0])[1]
        _, (_, outputs) = ops.scan(both, first, ops.transpose(inputs, (1, 0, 2)))
        return tuple(ops.transpose(x, (1, 0, 2)) for x in outputs)
    outputs = []
    for t in range(inputs.shape[1]):
        states, output = step(states, inputs[:, t])
        outputs.append(output)
    return tuple(ops.stack(parts, axis=1) for parts in zip(*outputs, strict=True))


# The ladder: the name of each rung and how it is made.
DECODERS = {
    "rnn": RNNDecoder,
    "lstm": LSTMDecoder,
    "attention_lstm": AttentionLSTMDecoder,
    "self_attention": partial(SelfAttentionDecoder, num_heads=1),
    "multi_head": SelfAttentionDecoder,
}


def decoder(name: str, vocabulary_size: int, **arguments) -> Decoder:
    """A decoder of the ladder by its name, one of `DECODERS`.

    Raises:
        ConfigError: for an unknown name or argument.
    """
    if name not in DECODERS:
        raise ConfigError(f"decoder={name!r} is unknown. Choose one of {tuple(DECODERS)}.")
    try:
        return DECODERS[name](vocabulary_size, name=name, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The decoder {name!r} cannot be made: {error}") from error
