"""Models: the course's layers put together. Importing this registers all that a saved one names."""

from common.models.backbones import backbone
from common.models.decoders import (
    DECODERS,
    AttentionLSTMDecoder,
    Decoder,
    DecoderBlock,
    LSTMDecoder,
    RecurrentDecoder,
    RNNDecoder,
    SelfAttentionDecoder,
    decoder,
)
from common.models.decoding import beam_search, sample
from common.models.resnet import PRESETS, ResNetConfig, adapt, preset, resnet, with_depth
from common.models.summary import count_macs, model_summary_table, receptive_fields

__all__ = [
    "DECODERS",
    "PRESETS",
    "AttentionLSTMDecoder",
    "Decoder",
    "DecoderBlock",
    "LSTMDecoder",
    "RNNDecoder",
    "RecurrentDecoder",
    "ResNetConfig",
    "SelfAttentionDecoder",
    "adapt",
    "backbone",
    "beam_search",
    "count_macs",
    "decoder",
    "model_summary_table",
    "preset",
    "receptive_fields",
    "resnet",
    "sample",
    "with_depth",
]
