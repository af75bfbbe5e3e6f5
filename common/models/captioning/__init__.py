"""Captioning models: five decoders on one ladder, each a step above the one before."""

from functools import partial

from common.errors import ConfigError
from common.models.captioning.base import Decoder
from common.models.captioning.decoding import beam_search, sample
from common.models.captioning.recurrent import (
    AttentionLSTMDecoder,
    LSTMDecoder,
    RecurrentDecoder,
    RNNDecoder,
)
from common.models.captioning.transformer import DecoderBlock, SelfAttentionDecoder

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
