"""Vectors of words from a BERT encoder of TensorFlow Hub or KerasHub: the one file that knows them.

Never `hub.KerasLayer`: it is made for Keras 2.
"""

from pathlib import Path

import keras
import numpy as np

from common.data.vocabulary import SPECIAL, Vocabulary
from common.data.word_vectors import WordVectors
from common.errors import ConfigError, DataError

HANDLE = "https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"
PRESET = "bert_base_en_uncased"
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
OUTPUT = "sequence_output"
BATCH = 256
PLACES = 512  # pieces that BERT reads at most; a line of Chinese without a blank is one word


def bert_vectors(
    vocabulary: Vocabulary, handle: str | Path = HANDLE, vocab_file: str | Path | None = None
) -> WordVectors:
    """A vector per word, from a BERT encoder that reads the word and nothing else.

    1. The word becomes pieces, "skateboarder" perhaps `skate ##board ##er`, by the model's own
       list; between `[CLS]` and `[SEP]` they go through the encoder.
    2. Its vector is the mean of the encoder's outputs at the pieces.

    Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding" (2019).

    An encoder that read the *caption* would show a decoder its future: BERT looks in both
    directions. A word alone has no future.

    Args:
        vocabulary: The words. The special ones get random numbers with the statistics of the rest.
        handle: Address of an encoder on TensorFlow Hub (version 2 or later, as on its page "Text,
            BERT"), or the folder of a SavedModel with the same signature.
        vocab_file: The pieces, a line each; by default the file that the model carries.

    Raises:
        ConfigError: without TensorFlow.
        DataError: if the model cannot be had, or is no such encoder (says what is missing).
    """
    return _vectors(vocabulary, _TensorFlowHub(handle, vocab_file))


def keras_bert_vectors(vocabulary: Vocabulary, preset: str | Path = PRESET) -> WordVectors:
    """As `bert_vectors`, from a BERT of KerasHub, on any backend.

    Args:
        vocabulary: The words.
        preset: Name of a preset of `keras_hub.models.BertBackbone`, or a folder with one.

    Raises:
        ConfigError: without KerasHub, or what it reads the preset's format with (safetensors for
            those of Hugging Face).
        DataError: if the preset cannot be had, or is no BERT.
    """
    return _vectors(vocabulary, _KerasHub(preset))


def _vectors(vocabulary: Vocabulary, encoder) -> WordVectors:
    words = list(vocabulary.words[len(SPECIAL) :])
    encoder.tokenizer.enable_truncation(encoder.places)
    parts = [_means(encoder, words[i : i + BATCH]) for i in range(0, len(words), BATCH)]
    # No number: a word of which the tokenizer leaves nothing.
    special = np.full((len(SPECIAL), parts[0].shape[1]), np.nan, "float32")
    vectors = np.concatenate([special, *parts])
    found = np.isfinite(vectors).all(axis=1)
    if not found.any():
        raise DataError(f"{encoder.source} knows a piece of none of the {len(words)} words.")
    known = vectors[found]
    rng = np.random.default_rng(0)
    vectors[~found] = rng.normal(
        known.mean(axis=0), known.std(axis=0), (np.sum(~found), known.shape[1])
    )
    return WordVectors(f"BERT ({encoder.source})", vectors, found)


def _means(encoder, words: list[str]) -> np.ndarray:
    """`(words, width)`."""
    pieces = encoder.tokenizer.encode_batch(words)
    length = max(len(one.ids) for one in pieces)
    ids, mask = np.zeros((2, len(words), length), "int32")
    inner = np.zeros((len(words), length), "float32")
    for row, one in enumerate(pieces):
        ids[row, : len(one.ids)] = one.ids
        mask[row, : len(one.ids)] = 1
        inner[row, 1 : len(one.ids) - 1] = 1  # without [CLS] and [SEP]
    sequence = encoder(ids, mask)
    counts = inner.sum(axis=1, keepdims=True)
    return (sequence * inner[..., None]).sum(axis=1) / np.where(counts, counts, np.nan)


class _TensorFlowHub:
    """Takes pieces and mask, int32 `(words, T)`; gives float32 `(words, T, width)`."""

    def __init__(self, source: str | Path, vocab_file: str | Path | None):
        self.source = source
        self.places = PLACES
        try:
            import tensorflow_hub as hub
        except ImportError as error:
            raise ConfigError(
                f"Vectors from BERT need TensorFlow and tensorflow-hub ({error}). Install them, or "
                "choose another embedding."
            ) from error
        try:
            self.model = hub.load(str(source))
        except Exception as error:  # of the network, of archives, of protocol buffers
            raise DataError(
                f"The encoder {source} cannot be loaded: {error}. Check the address or the folder; "
                "without a network, download the model elsewhere and give its folder."
            ) from error
        self.tokenizer = self._tokenizer(vocab_file)

    def _tokenizer(self, vocab_file: str | Path | None):
        from tokenizers import BertWordPieceTokenizer

        lowercase = True
        if vocab_file is None:
            asset = getattr(self.model, "vocab_file", None)
            if asset is None:
                raise DataError(
                    f"The encoder {self.source} carries no list of word pieces (`vocab_file`). "
                    "Name one."
                )
            vocab_file = asset.asset_path.numpy().decode()
            lowercase = bool(getattr(self.model, "do_lower_case", True))
        if not Path(vocab_file).is_file():
            raise DataError(
                f"{vocab_file} does not exist: the list of word pieces of {self.source}."
            )
        try:
            return BertWordPieceTokenizer(str(vocab_file), lowercase=lowercase)
        except Exception as error:  # the library's own kind for bytes that are no UTF-8
            raise DataError(
                f"{vocab_file} is no list of word pieces, one a line, with [CLS], [SEP] and [UNK]: "
                f"{error}."
            ) from error

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        inputs = dict(zip(INPUTS, map(tf.constant, (ids, mask, np.zeros_like(ids))), strict=True))
        try:
            outputs = self.model(inputs)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"The encoder {self.source} does not take {', '.join(INPUTS)} (int32): {error}"
            ) from error
        if not hasattr(outputs, "keys") or OUTPUT not in outputs:
            given = ", ".join(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
            raise DataError(f"The encoder {self.source} gives no {OUTPUT!r}, but: {given}.")
        return outputs[OUTPUT].numpy()


class _KerasHub:
    """As `_TensorFlowHub`."""

    def __init__(self, source: str | Path):
        from tokenizers import BertWordPieceTokenizer

        self.source = source
        try:
            import keras_hub
        except ImportError as error:
            raise ConfigError(
                f"Vectors from KerasHub need keras-hub ({error}): pip install keras-hub, or choose "
                "another embedding."
            ) from error
        try:
            self.model = keras_hub.models.BertBackbone.from_preset(str(source), dtype="float32")
            pieces = keras_hub.models.BertTokenizer.from_preset(str(source))
        except ImportError as error:
            raise ConfigError(
                f"The preset {source} is of a format that KerasHub reads by another package "
                f"({error}): pip install {error.name}."
            ) from error
        except Exception as error:  # of the network, of Kaggle, of files
            raise DataError(
                f"The preset {source} of KerasHub cannot be loaded as a BERT: {error}. Check the "
                "name or the folder; without a network, download it elsewhere and give its folder."
            ) from error
        self.places = min(PLACES, self.model.max_sequence_length)
        ids = {piece: i for i, piece in enumerate(pieces.get_vocabulary())}
        self.tokenizer = BertWordPieceTokenizer(ids, lowercase=pieces.lowercase)

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}
        return keras.ops.convert_to_numpy(self.model(inputs, training=False)[OUTPUT])
