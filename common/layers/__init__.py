"""Custom Keras layers, written from scratch on `keras.ops`; importing this registers them all."""

from common.layers.activations import gelu_tanh, get_activation
from common.layers.attention import BahdanauAttention, MultiHeadAttention
from common.layers.augmentation import (
    PixelScaling,
    RandomAugmentation,
    RandomColour,
    RandomCutout,
    RandomFlip,
    RandomShift,
    RandomStain,
    RandomSymmetry,
)
from common.layers.batch_transforms import AlternatingFlip, MixUp
from common.layers.embedding import PositionEmbedding, TiedEmbedding
from common.layers.initializers import PartialDirac
from common.layers.masks import causal_mask, masked_mean
from common.layers.pixels import PixelRange
from common.layers.recurrent import LSTM, LSTMCell, SimpleRNN, SimpleRNNCell
from common.layers.residual import (
    BasicBlock,
    BottleneckBlock,
    PooledTransition,
    ResidualBlock,
    SingleConvBlock,
    SqueezeExcitation,
)
from common.layers.resizing import AreaResize
from common.layers.stain import hed_to_rgb, rgb_to_hed
from common.layers.whitening import PatchWhitening
