"""Vectors of words from a BERT encoder of TensorFlow Hub: the one file that knows the Hub.

Never `hub.KerasLayer`: it is made for Keras 2.
"""

from pathlib import Path

import numpy as np

from common.data.vocabulary import SPECIAL, Vocabulary
from common.data.word_vectors import WordVectors
from common.errors import ConfigError, DataError

HANDLE = "https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
OUTPUT = "sequence_output"
BATCH = 256


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
    model = _load(handle)
    tokenizer = _tokenizer(model, handle, vocab_file)
    words = list(vocabulary.words[len(SPECIAL) :])
    known = np.concatenate(
        [
            _encode(model, tokenizer, words[i : i + BATCH], handle)
            for i in range(0, len(words), BATCH)
        ]
    )
    rng = np.random.default_rng(0)
    special = rng.normal(known.mean(axis=0), known.std(axis=0), (len(SPECIAL), known.shape[1]))
    found = np.arange(len(vocabulary)) >= len(SPECIAL)
    vectors = np.concatenate([special, known]).astype("float32")
    return WordVectors(f"BERT ({handle})", vectors, found)


def _load(handle: str | Path):
    try:
        import tensorflow_hub as hub
    except ImportError as error:
        raise ConfigError(
            f"Vectors from BERT need TensorFlow and tensorflow-hub ({error}). Install them, or "
            "choose another embedding."
        ) from error
    try:
        return hub.load(str(handle))
    except Exception as error:  # of the network, of archives, of protocol buffers
        raise DataError(
            f"The encoder {handle} cannot be loaded: {error}. Check the address or the folder; "
            "without a network, download the model elsewhere and give its folder."
        ) from error


def _tokenizer(model, handle, vocab_file: str | Path | None):
    from tokenizers import BertWordPieceTokenizer

    lowercase = True
    if vocab_file is None:
        asset = getattr(model, "vocab_file", None)
        if asset is None:
            raise DataError(
                f"The encoder {handle} carries no list of word pieces (`vocab_file`). Name one."
            )
        vocab_file = asset.asset_path.numpy().decode()
        lowercase = bool(getattr(model, "do_lower_case", True))
    if not Path(vocab_file).is_file():
        raise DataError(f"{vocab_file} does not exist: the list of word pieces of {handle}.")
    return BertWordPieceTokenizer(str(vocab_file), lowercase=lowercase)


def _encode(model, tokenizer, words: list[str], handle) -> np.ndarray:
    """`(words, width)`."""
    import tensorflow as tf

    found = tokenizer.encode_batch(words)
    length = max(len(one.ids) for one in found)
    ids, mask = np.zeros((2, len(found), length), "int32")
    inner = np.zeros((len(found), length), "float32")
    for row, one in enumerate(found):
        ids[row, : len(one.ids)] = one.ids
        mask[row, : len(one.ids)] = 1
        inner[row, 1 : len(one.ids) - 1] = 1  # without [CLS] and [SEP]
    inputs = dict(zip(INPUTS, map(tf.constant, (ids, mask, np.zeros_like(ids))), strict=True))
    try:
        outputs = model(inputs)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The encoder {handle} does not take {', '.join(INPUTS)} (int32): {error}"
        ) from error
    if not hasattr(outputs, "keys") or OUTPUT not in outputs:
        given = ", ".join(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
        raise DataError(f"The encoder {handle} gives no {OUTPUT!r}, but: {given}.")
    sequence = outputs[OUTPUT].numpy()
    return (sequence * inner[..., None]).sum(axis=1) / inner.sum(axis=1, keepdims=True)
