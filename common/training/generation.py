"""Captions for many images, by a compiled decoder, batch by batch."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common.data.caption_files import REFERENCES
from common.data.vocabulary import PAD, Vocabulary
from common.errors import ConfigError, DataError
from common.files import read_json, write_json
from common.models.captioning import Decoder, decoding
from common.training.backend import compiled_method

METHODS = ("greedy", "beam", "sample")
# How captions are written until a captioner's own way is chosen on dev images.
DECODING = {"method": "beam", "beams": 3, "length_penalty": 0.7}
# In the folder of a run: the caption of the first dev image after each epoch.
SAMPLES = "samples.json"
# Options that a compiled function is handed at each call: their values need no function each.
_HANDED = ("length_penalty", "temperature")


class Generator:
    """Writes captions with a decoder; each way of writing is compiled once.

    The decoder's weights may change between two calls.

    Args:
        decoder: A decoder that has been built.
        vocabulary: Its words.
        batch_size: Images at a time; all batches have this size, the last one is filled up.

    Raises:
        DataError: if the vocabulary is not the decoder's.
    """

    def __init__(self, decoder: Decoder, vocabulary: Vocabulary, batch_size: int = 64):
        if len(vocabulary) != decoder.vocabulary_size:
            raise DataError(
                f"The vocabulary has {len(vocabulary)} words, the decoder {decoder.name!r} was "
                f"made for {decoder.vocabulary_size}. Use the one saved with the model."
            )
        self.decoder = decoder
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        # Without `<start>`, which is given.
        self.length = decoder.max_length - 1
        self._compiled = {}

    def tokens(
        self,
        features: np.ndarray,
        method: str = "greedy",
        *,
        beams: int = 3,
        captions: int = 1,
        seed: int = 0,
        region_mask: np.ndarray | None = None,
        **options,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 `(images, K, length)` and their scores `(images, K)`.

        Args:
            features: `(images, N, channels)`.
            method: One of `METHODS`.
            beams: Beginnings kept by "beam"; so many captions are given, the best first.
            captions: Captions of each image for "sample".
            seed: Of "sample".
            region_mask: Bool `(images, N)`: which regions may be looked at; `None` for all.
            **options: Those of `decoding.beam_search` ("beam") or `decoding.sample`.
        """
        handed = {name: options.pop(name) for name in _HANDED if name in options}
        decoding.check(self.decoder, features, self.length, **handed)
        handed = {name: np.float32(value) for name, value in handed.items()}
        drawn = ("uniforms",) if method == "sample" else ()
        hidden = ("region_mask",) if region_mask is not None else ()
        function = self._function(method, beams, (*handed, *drawn, *hidden), options)
        rng = np.random.default_rng(seed)
        tokens, scores = [], []
        for start in range(0, len(features), self.batch_size):
            part = slice(start, start + self.batch_size)
            inputs = [self._full(np.asarray(features[part], "float32")), *handed.values()]
            if drawn:
                shape = (self.batch_size, captions, self.length)
                inputs.append(rng.random(shape, dtype="float32"))
            if hidden:
                inputs.append(self._full(region_mask[part]))
            found, score = function(*inputs)
            tokens.append(ops.convert_to_numpy(found))
            scores.append(ops.convert_to_numpy(score))
        count = len(features)
        return np.concatenate(tokens)[:count], np.concatenate(scores)[:count]

    def captions(self, features: np.ndarray, method: str = "greedy", **options) -> list[list[str]]:
        """The best caption of each image as a list of words; options as for `tokens`."""
        return self.scored_captions(features, method, **options)[0]

    def scored_captions(
        self, features: np.ndarray, method: str = "greedy", **options
    ) -> tuple[list[list[str]], np.ndarray]:
        """The same, and the mean log-probability of each caption's words, `<end>` included."""
        tokens, scores = self.tokens(features, method, **options)
        # What a beam was judged by is the sum over a power of the number of words.
        exponent = options.get("length_penalty", 1.0) if method == "beam" else 0.0
        words = np.maximum((tokens[:, 0] != PAD).sum(axis=1), 1)
        means = scores[:, 0] * words ** (exponent - 1.0)
        return [self.vocabulary.decode(row) for row in tokens[:, 0]], means

    def attention(
        self, features: np.ndarray, captions: Sequence[Sequence[str]]
    ) -> list[np.ndarray] | None:
        """Where the decoder looked for each word of captions, in whatever way they were written.

        Args:
            features: `(images, N, channels)`.
            captions: The words of a caption of each image.

        Returns:
            For each caption float32 `(words, blocks, heads, N)`, each with sum 1 over the regions:
            the look from which the word came. `None` for a decoder without attention.
        """
        given = self.vocabulary.encode(captions, self.length)
        key = ("attention",)
        if key not in self._compiled:

            def attention_of(images, words):
                _, attention = self.decoder(images, words, return_attention=True)
                return ops.zeros(()) if attention is None else attention

            self._compiled[key] = compiled_method(attention_of, self.decoder.variables)
        looks = []
        for start in range(0, len(features), self.batch_size):
            part = slice(start, start + self.batch_size)
            found = self._compiled[key](
                self._full(np.asarray(features[part], "float32")), self._full(given[part])
            )
            if len(found.shape) == 0:
                return None
            rows = zip(ops.convert_to_numpy(found), captions[part], strict=False)
            looks += [row[: len(words)] for row, words in rows]
        return looks

    def _full(self, batch: np.ndarray) -> np.ndarray:
        missing = self.batch_size - len(batch)
        return np.pad(batch, ((0, missing), *((0, 0),) * (batch.ndim - 1))) if missing else batch

    def _function(self, method: str, beams: int, names: tuple[str, ...], options: dict):
        """Compiled; takes features and the values of what `names` says."""
        if method not in METHODS:
            raise ConfigError(f"method={method!r} is unknown. Choose one of {METHODS}.")
        key = (method, beams if method == "beam" else 0, names, *sorted(options.items()))
        if key not in self._compiled:
            write = decoding.sample
            if method == "beam":
                write = partial(decoding.beam_search, beams=beams)

            def function(x, *values):
                handed = dict(zip(names, values, strict=True))
                return write(self.decoder, x, self.length, **handed, **options)

            self._compiled[key] = compiled_method(function, self.decoder.variables)
        return self._compiled[key]


class Generated(keras.callbacks.Callback):
    """After each epoch: captions of the dev images, greedily; their score as `val_score`.

    Under teacher forcing a decoder never sees its own mistakes, so its loss tells little of the
    captions that it writes. Put it before the callbacks that keep what it finds.

    Args:
        generator: Of the decoder in training.
        dev: The dev images, with `features` and `references`.
        score: Of captions and references; larger is better.
        folder: Where `SAMPLES` is kept: the caption of the first image, epoch by epoch.
    """

    def __init__(self, generator: Generator, dev, score: Callable, folder=None):
        super().__init__()
        self.generator = generator
        self.dev = dev
        self.score = score
        self.path = None if folder is None else Path(folder) / SAMPLES

    def on_epoch_end(self, epoch, logs=None):
        captions = self.generator.captions(self.dev.features)
        logs["val_score"] = float(self.score(captions, self.dev.references))
        if self.path is not None:
            samples = read_json(self.path, dict) if epoch and self.path.exists() else {}
            write_json(self.path, {**samples, str(epoch + 1): " ".join(captions[0])})


def caption_rows(
    references: Sequence[Sequence], most: int = REFERENCES
) -> tuple[np.ndarray, list[Sequence]]:
    """Captions in rows of so many at most: an image that has more gets several rows.

    Else one image with a hundred captions would make every batch twenty times as large.

    Args:
        references: The captions of each image.
        most: Of a row.

    Returns:
        The number of each row's image, int `(rows,)`, and the captions of each row.
    """
    rows = [
        (image, captions[start : start + most])
        for image, captions in enumerate(references)
        for start in range(0, max(len(captions), 1), most)
    ]
    return np.array([image for image, _ in rows]), [captions for _, captions in rows]


def caption_tokens(
    references: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, length: int
) -> np.ndarray:
    """Numbers of all captions, int32 `(images, K, length)`; where an image has fewer, `<pad>`."""
    most = max(len(captions) for captions in references)
    tokens = np.full((len(references), most, length), PAD, "int32")
    for rows, captions in zip(tokens, references, strict=True):
        rows[: len(captions)] = vocabulary.encode(captions, length)
    return tokens


def build_decoder(decoder: Decoder, regions: int, channels: int) -> Decoder:
    """Makes the decoder's weights, for features of this shape, from Keras's global seed."""
    decoder.build((None, regions, channels), (None, None, decoder.max_length))
    return decoder
