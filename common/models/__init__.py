"""Models: the course's layers put together. Importing this registers all that a saved one names."""

from common.models.backbones import backbone
from common.models.captioning import (
    DECODERS,
    AttentionLSTMDecoder,
    Decoder,
    DecoderBlock,
    LSTMDecoder,
    RecurrentDecoder,
    RNNDecoder,
    SelfAttentionDecoder,
    beam_search,
    decoder,
    sample,
)
from common.models.ensemble import Ensemble, members_of
from common.models.resnet import PRESETS, ResNetConfig, adapt, preset, resnet, with_depth
from common.models.summary import count_macs, model_summary_table, receptive_fields
