"""The ResNet family: every network of phases 1 and 2 is a `ResNetConfig` given to `resnet`."""

from common.models.resnet.config import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    PRESETS,
    ResNetConfig,
    preset,
    with_depth,
)
from common.models.resnet.network import adapt, resnet, spread, with_pixel_statistics
