"""Models: the course's layers put together."""

from common.models.resnet import PRESETS, ResNetConfig, adapt, preset, resnet, with_depth
from common.models.summary import count_macs, model_summary_table, receptive_fields

__all__ = [
    "PRESETS",
    "ResNetConfig",
    "adapt",
    "count_macs",
    "model_summary_table",
    "preset",
    "receptive_fields",
    "resnet",
    "with_depth",
]
