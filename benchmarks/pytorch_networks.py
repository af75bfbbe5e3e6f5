"""The fast networks in plain PyTorch, for `benchmarks/against_pytorch.py`; no course, no Keras.

Networks take images `uint8` `(batch, 3, height, width)` in channels-last order, and a `config` with
the attributes of `ResNetConfig`. Convolutions start as in the course (`PartialDirac`), and scales
of norms stay 1: they are not trained.
"""

import torch
from torch import nn
from torch.nn import functional

WHITENED_CHANNELS = 24  # 2x2 patches of 3 colours, in both signs


class Twin(nn.Module):
    """The network that the course's `resnet` builds of `preset("fast")` and its like."""

    def __init__(self, config, num_classes: int = 10):
        super().__init__()
        self.scaling = Scaling(config)
        # Never trained: backpropagation ends before it.
        self.whitening = nn.Conv2d(3, WHITENED_CHANNELS, 2, bias=False).requires_grad_(False)
        options = {"eps": config.norm_epsilon, "momentum": 1 - config.norm_momentum}
        channels, stages = WHITENED_CHANNELS, []
        for width in config.widths:
            stages.append(TwinStage(channels, width, options))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes, bias=False)
        self.head_scale = config.head_scale

    def forward(self, images):
        x = gelu_tanh(self.whitening(self.scaling(images)))
        return self.head(self.stages(x).amax((2, 3)) * self.head_scale)

    def load(self, weights: dict) -> None:
        """Takes the weights of the course's network: arrays by their paths, in its order."""
        kernels = [torch.tensor(w) for path, w in weights.items() if path.endswith("kernel")]
        biases = [torch.tensor(w) for path, w in weights.items() if path.endswith("beta")]
        kernels = [k.T if k.ndim == 2 else k.permute(3, 2, 0, 1) for k in kernels]
        weighted = [m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        pairs = list(zip([layer.weight for layer in weighted], kernels, strict=True))
        pairs += zip([layer.bias for layer in norms], biases, strict=True)
        with torch.no_grad():
            for own, other in pairs:
                assert own.shape == other.shape, (own.shape, other.shape)
                own.copy_(other)


class TwinStage(nn.Module):
    """A `PooledTransition` and a `SingleConvBlock`."""

    def __init__(self, channels: int, width: int, options: dict):
        super().__init__()
        self.transition, self.transition_norm = convolution(channels, width), norm(width, options)
        self.block, self.block_norm = convolution(width, width), norm(width, options)

    def forward(self, x):
        x = functional.max_pool2d(self.transition(x), 2)
        x = gelu_tanh(self.transition_norm(x))
        return x + gelu_tanh(self.block_norm(self.block(x)))


class Airbench94(nn.Module):
    """The network of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024).

    Two convolutions in each of three groups, no shortcuts; the whitening has a bias that is
    learned; GELU is the exact one. Written from that description and what is published at
    https://github.com/KellerJordan/cifar10-airbench (airbench94). Its convolutions have the shapes
    of those of `preset("fast")`.
    """

    def __init__(self, config, num_classes: int = 10):
        super().__init__()
        self.scaling = Scaling(config)
        self.whitening = nn.Conv2d(3, WHITENED_CHANNELS, 2)
        self.whitening.weight.requires_grad_(False)
        options = {"eps": 1e-12, "momentum": 0.4}
        channels, layers = WHITENED_CHANNELS, [nn.GELU()]
        for width in (64, 256, 256):
            first, second = convolution(channels, width), convolution(width, width)
            layers += [first, nn.MaxPool2d(2), norm(width, options), nn.GELU()]
            layers += [second, norm(width, options), nn.GELU()]
            channels = width
        layers += [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(channels, num_classes, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(self.whitening(self.scaling(images))) / 9


class Scaling(nn.Module):
    """Pixels of 0..255 to mean 0 and deviation 1."""

    def __init__(self, config):
        super().__init__()
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1))

    def forward(self, images):
        return (images / 255 - self.mean) / self.std


def convolution(channels: int, filters: int) -> nn.Conv2d:
    """3x3, without bias; the first filters begin as copies of the input's channels."""
    layer = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:channels])
    return layer


def norm(channels: int, options: dict) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, **options)
    layer.weight.requires_grad_(False)
    return layer


def gelu_tanh(x):
    return functional.gelu(x, approximate="tanh")


def trainable(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
