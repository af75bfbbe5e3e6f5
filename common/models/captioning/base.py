"""What the five decoders of the ladder share.

All of them take features of image regions and the words so far, and give logits of the next word:

- `start(features) -> state`: looks at the image once.
- `step(tokens, state) -> logits, state, attention`: one word further, for generating.
- `call({"features": ..., "tokens": ...}) -> logits`: all steps at once from given words, for
  teacher forcing.

A state has two parts: `state["image"]`, the same for all captions of an image, and
`state["words"]`, whose arrays have a row per caption. The shapes never change between steps.
"""

import keras
from keras import ops

from common.layers import TiedEmbedding
from common.layers.masks import require_bool


class Decoder(keras.Model):
    """What the five decoders share. `B` images, `K` captions each, `T` words, `N` regions.

    Args:
        vocabulary_size: Number of words, the special ones included.
        width: Size of the vectors of words and of image regions.
        dropout: Share of the numbers set to 0 in training.
        max_length: The most words of a caption, `<start>` or `<end>` included.
        region_dropout: Share of the image's regions hidden in training: nothing looks at them.
        places_std: Standard deviation of the regions' places at first, for decoders with attention.
            What they are added to, the regions' own vectors, has 1.
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
        region_mask: Bool `(B, N)`, false for regions that are hidden: they get no attention and no
            part in means. `None` for none; a dict may have it, too. Where all are hidden, none is.

    Returns:
        Logits of the words that follow, float32 `(B, [K,] T, vocabulary)`; and if asked for the
        attention to the image, `(B, [K,] T, blocks, heads, N)`, each with sum 1 over the regions;
        `None` where a decoder has none. Recurrent attention is one block of one head.
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
        self.hide_regions = self._made(keras.layers.Dropout, region_dropout, seed=seed + 4)

    def _made(self, layer_class, *arguments, **options):
        """A layer in the decoder's own precision."""
        return layer_class(*arguments, dtype=self.dtype_policy, **options)

    def build(self, features_shape, tokens_shape=None):
        if isinstance(features_shape, dict) or isinstance(features_shape[0], (list, tuple)):
            features_shape, *_ = _given(features_shape, tokens_shape)
        self.embedding.build()
        self.regions.build((None, None, features_shape[-1]))
        self.regions_norm.build((None, None, self.width))
        if self.has_places:
            self.places = self.add_weight(
                name="places",
                shape=(features_shape[1], self.width),
                initializer=keras.initializers.RandomNormal(stddev=self.places_std),
            )
        self.build_decoder(features_shape[1])
        self.built = True

    def build_decoder(self, regions: int) -> None:
        """Builds what a subclass adds, for so many image regions."""
        raise NotImplementedError

    def encode(self, features, training=False, region_mask=None):
        """What the decoder keeps of the image: a dict of arrays that begin with `B`.

        `region_mask` is in it only where regions are hidden, `image.get("region_mask")`.
        """
        regions = self.regions_norm(self.regions(ops.cast(features, self.compute_dtype)))
        regions = self.drop_regions(regions, training=training)
        if self.has_places:
            regions = regions + ops.cast(self.places, regions.dtype)
        mask = self._seen(features, training, region_mask)
        return {"regions": regions, **({} if mask is None else {"region_mask": mask})}

    def _seen(self, features, training, mask):
        """Which regions are seen, bool `(B, N)`: those of `mask` that training does not hide."""
        if mask is not None:
            require_bool("region_mask", mask, (2,))
        if training and self.region_dropout:
            kept = self.hide_regions(ops.ones_like(features[..., 0]), training=True) > 0
            mask = kept if mask is None else ops.logical_and(mask, kept)
        if mask is None:
            return None
        # There has to be something to look at.
        return ops.logical_or(mask, ops.logical_not(ops.any(mask, axis=1, keepdims=True)))

    def initial_state(self, image, captions: int) -> dict:
        """The state of the words before the first one: a dict of arrays with `B * K` rows."""
        raise NotImplementedError

    def decode(self, words, image, training):
        """`words` (B * K, T, width) to logits (B * K, T, vocabulary) and attention, or `None`.

        Attention is `(B * K, T, blocks, heads, N)`, in `decode_step` without `T`.
        """
        raise NotImplementedError

    def decode_step(self, words, state):
        """`words` (B * K, width) to logits (B * K, vocabulary), state of the words, attention."""
        raise NotImplementedError

    def start(self, features, captions: int = 1, region_mask=None) -> dict:
        """The state before the first word, for `captions` captions of each image."""
        image = self.encode(features, region_mask=region_mask)
        return {"image": image, "words": self.initial_state(image, captions)}

    def step(self, tokens, state):
        """One word further.

        Args:
            tokens: int32 `(B * K,)`: the last words, at first `<start>`.
            state: From `start` or the last `step`.

        Returns:
            Logits float32 `(B * K, vocabulary)`, the new state, and the attention
            `(B * K, blocks, heads, N)` or `None`.
        """
        logits, words, attention = self.decode_step(self.embedding(tokens), state)
        return logits, {"image": state["image"], "words": words}, attention

    def call(self, features, tokens=None, training=False, return_attention=False, region_mask=None):
        features, tokens, region_mask = _given(features, tokens, region_mask)
        if len(features.shape) != 3 or len(tokens.shape) not in (2, 3):
            raise ValueError(
                "Wanted features (B, N, channels) and tokens (B, T) or (B, K, T). Received: shapes "
                f"{tuple(features.shape)} and {tuple(tokens.shape)}"
            )
        single = len(tokens.shape) == 2
        captions, time = (1 if single else ops.shape(tokens)[1]), ops.shape(tokens)[-1]
        words = self.embedding(ops.reshape(tokens, (-1, time)))
        words = self.drop_words(words, training=training)
        image = self.encode(features, training, region_mask)
        logits, attention = self.decode(words, image, training)

        def unfold(x):
            shape = (-1, time) if single else (-1, captions, time)
            return ops.reshape(x, (*shape, *x.shape[2:]))

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
            "trainable": self.trainable,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        frozen, trainable = config.pop("frozen", ()), config.pop("trainable", True)
        made = cls(**config)
        made.trainable = trainable  # of its own weights, too
        for layer in made.layers:
            layer.trainable = layer.name not in frozen
        return made


def _given(inputs, tokens, region_mask=None):
    """Features, tokens and mask, or their shapes, in whatever form they are given."""
    if tokens is not None:
        return inputs, tokens, region_mask
    if isinstance(inputs, dict):
        return inputs["features"], inputs["tokens"], inputs.get("region_mask", region_mask)
    return *inputs, region_mask
