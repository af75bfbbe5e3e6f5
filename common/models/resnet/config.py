"""What makes one residual network differ from another: `ResNetConfig`, and the presets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import keras

from common.errors import ConfigError
from common.layers import BasicBlock, BottleneckBlock, SingleConvBlock, get_activation

# Of the 50,000 training images of CIFAR-10, pixels in 0..1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock, "single": SingleConvBlock}
STEMS = ("conv3x3", "conv7x7", "whitening")
POOLINGS = {
    "average": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}
KERNEL_INITS = ("he_normal", "dirac")
WHITENED_CHANNELS = 24  # 2x2 patches of 3 colours, in both signs
WIDEST = 512  # `with_depth` doubles the width from stage to stage up to this


def _positive_ints(name, values) -> tuple[int, ...]:
    try:
        numbers = tuple(int(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or min(numbers) < 1 or any(n != v for n, v in zip(numbers, values, strict=True)):
        raise ConfigError(f"{name}={values!r} must be whole numbers of at least 1, one per stage.")
    return numbers


@dataclass(frozen=True)
class ResNetConfig:
    """Everything that makes one residual network differ from another.

    Attributes:
        blocks: Blocks per stage; its length is the number of stages.
        widths: Filters of the blocks, per stage.
        block: "basic", "bottleneck" or "single"; see `common.layers.residual`.
        preactivation: Normalisation and activation before each convolution (He et al. 2016).
        shortcut: Where the shape changes: "A" zero padding or "B" 1x1 convolution.
        residual: `False` leaves all shortcuts out: a plain network.
        stem: "conv3x3"; "conv7x7", stride 2 and max-pooling, for large images; or "whitening",
            see `PatchWhitening` (call `adapt` before training).
        downsample: "stride": the first block of each stage but the first has stride 2; or
            "pool": a `PooledTransition` before the blocks of every stage.
        activation: Name of the activation; "gelu_tanh" is the approximate GELU.
        squeeze_excitation: Ratio of the blocks' squeeze-excitation; 0 for none.
        zero_init_last: Each block starts as its shortcut.
        global_pooling: "average" or "max" over the last feature maps.
        head_scale: `None`: a dense head with bias and Glorot initialisation. A number: logits are
            that number times a dense head without bias, whose weights start with variance 1.
        image_size: Side in pixels that images are shrunk to, see `AreaResize`; `None` for their
            own size.
        norm_momentum, norm_epsilon, norm_scale: Of all batch normalisations.
        kernel_init: Of all convolutions: "he_normal", or "dirac", see `PartialDirac`.
        mean, std: Per channel, of the training images, pixels in 0..1: what `PixelScaling` brings
            to 0 and 1. See `with_pixel_statistics`.

    Raises:
        ConfigError: for values that are unknown or do not go together.
    """

    blocks: tuple[int, ...] = (3, 3, 3)
    widths: tuple[int, ...] = (16, 32, 64)
    block: str = "basic"
    preactivation: bool = False
    shortcut: str = "A"
    residual: bool = True
    stem: str = "conv3x3"
    downsample: str = "stride"
    activation: str = "relu"
    squeeze_excitation: int = 0
    zero_init_last: bool = False
    global_pooling: str = "average"
    head_scale: float | None = None
    image_size: int | None = None
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    norm_scale: bool = True
    kernel_init: str = "he_normal"
    mean: tuple[float, ...] = CIFAR10_MEAN
    std: tuple[float, ...] = CIFAR10_STD

    def __post_init__(self):
        for name in ("blocks", "widths"):
            object.__setattr__(self, name, _positive_ints(name, getattr(self, name)))
        if len(self.blocks) != len(self.widths):
            raise ConfigError(
                f"blocks={self.blocks} has {len(self.blocks)} stages, "
                f"but widths={self.widths} has {len(self.widths)}."
            )
        choices = {
            "block": tuple(BLOCKS),
            "shortcut": ("A", "B"),
            "stem": STEMS,
            "downsample": ("stride", "pool"),
            "global_pooling": tuple(POOLINGS),
            "kernel_init": KERNEL_INITS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} is unknown. Choose one of {known}."
                )
        try:
            get_activation(self.activation)
        except ValueError as error:
            raise ConfigError(f"activation={self.activation!r} is unknown to Keras.") from error
        if not isinstance(self.squeeze_excitation, int) or self.squeeze_excitation < 0:
            raise ConfigError(
                f"squeeze_excitation={self.squeeze_excitation!r} must be a whole ratio, or 0."
            )
        if not 0 <= self.norm_momentum < 1:
            raise ConfigError(f"norm_momentum={self.norm_momentum} must lie in 0..1, 1 excluded.")
        if self.norm_epsilon <= 0:
            raise ConfigError(f"norm_epsilon={self.norm_epsilon} must be positive.")
        if self.image_size is not None and self.image_size < 1:
            raise ConfigError(f"image_size={self.image_size} must be at least 1, or None.")
        if self.head_scale is not None and self.head_scale <= 0:
            raise ConfigError(f"head_scale={self.head_scale} must be positive, or None.")
        self._check_pixel_statistics()
        self._check_shortcut()
        if self.zero_init_last:
            self._check_zero_init()

    def _check_pixel_statistics(self):
        try:
            mean, std = (tuple(map(float, values)) for values in (self.mean, self.std))
        except (TypeError, ValueError):
            mean = std = ()
        if not mean or len(mean) != len(std) or min(std) <= 0:
            raise ConfigError(
                f"mean={self.mean} and std={self.std} must be one number per channel each, those "
                "of std positive."
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def _check_shortcut(self):
        if self.shortcut == "B" or self.downsample == "pool" or not self.residual:
            return
        if list(self.widths) != sorted(self.widths):
            raise ConfigError(f"shortcut='A' cannot remove channels, as widths={self.widths} asks.")
        channels = self.widths[0] * BLOCKS[self.block].expansion
        if self.stem == "whitening" and channels < WHITENED_CHANNELS:
            raise ConfigError(
                f"stem='whitening' has {WHITENED_CHANNELS} channels, which shortcut='A' cannot "
                f"reduce to the {channels} of the first stage: take shortcut='B'."
            )

    def _check_zero_init(self):
        if not self.residual:
            raise ConfigError("zero_init_last=True needs residual=True: the output would be 0.")
        if not self.preactivation and not self.norm_scale:
            raise ConfigError("zero_init_last=True needs norm_scale=True or preactivation=True.")
        if not self.preactivation and self.block == "single":
            raise ConfigError("zero_init_last=True with block='single' needs preactivation=True.")

    @property
    def stages(self) -> int:
        return len(self.blocks)

    @property
    def depth(self) -> int:
        """Layers with weights between pixels and logits; those in shortcuts do not count."""
        convolutions = len(BLOCKS[self.block](filters=1).convolutions())
        transitions = self.stages if self.downsample == "pool" else 0
        return 2 + transitions + convolutions * sum(self.blocks)

    def to_dict(self) -> dict:
        """As JSON can hold it: tuples become lists.

        `mean` and `std` are left out where they are CIFAR-10's: what phase 1 trained is described
        as it was before networks could have others.
        """
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if (self.mean, self.std) == (CIFAR10_MEAN, CIFAR10_STD):
            del values["mean"], values["std"]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "ResNetConfig":
        """The inverse of `to_dict`; what is left out takes its default.

        Raises:
            ConfigError: for a name that no attribute has.
        """
        _check_names(values)
        return cls(**values)


FAST = ResNetConfig(
    blocks=(1, 1, 1),
    widths=(64, 256, 256),
    block="single",
    stem="whitening",
    downsample="pool",
    activation="gelu_tanh",
    global_pooling="max",
    head_scale=1 / 256,
    norm_momentum=0.6,
    norm_epsilon=1e-6,
    norm_scale=False,
    kernel_init="dirac",
)


def with_depth(
    config: ResNetConfig,
    stages: int | None = None,
    blocks: int | Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> ResNetConfig:
    """The same network with another number of stages, or of blocks in each of them.

    New stages are twice as wide as the one before (512 at most) and have as many blocks as the
    last. A `head_scale` goes with the square root of the last stage's width: the logits of an
    untrained network stay as large, and a step of the head or of a bias moves them as far. (In
    proportion to the width, narrow networks diverge at the learning rates of wide ones.)

    Args:
        config: The network to start from.
        stages: Number of stages.
        blocks: Blocks per stage: a number for all, or one for each stage.
        widths: Filters per stage, where the rule above should not decide.

    Raises:
        ConfigError: if the arguments contradict each other.
    """
    if blocks is None:
        blocks = config.blocks
        if stages is not None:
            blocks = (*blocks, *[blocks[-1]] * stages)[:stages]
    elif isinstance(blocks, int):
        blocks = (blocks,) * (config.stages if stages is None else stages)
    if stages is not None and len(blocks) != stages:
        raise ConfigError(f"stages={stages} contradicts blocks={tuple(blocks)}.")
    if widths is None:
        widths = list(config.widths)
        while len(widths) < len(blocks):
            widths.append(max(widths[-1], min(2 * widths[-1], WIDEST)))
        widths = widths[: len(blocks)]
    resized = replace(config, blocks=blocks, widths=widths)
    if config.head_scale is None:
        return resized
    ratio = config.widths[-1] / resized.widths[-1]
    return replace(resized, head_scale=config.head_scale * ratio**0.5)


PRESETS: dict[str, ResNetConfig] = {
    # He et al. (2015), section 4.2: 6 n + 2 layers, shortcut A.
    **{f"resnet{6 * n + 2}": ResNetConfig(blocks=(n, n, n)) for n in (3, 5, 7, 9, 18)},
    # He et al. (2015), table 1, with the stem that suits 32x32 images.
    "resnet18": ResNetConfig(blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), shortcut="B"),
    # The course's own: the stem, transitions, initialisation and head of Jordan (2024), and in
    # each stage a residual block.
    "fast": FAST,
    "fast_small": with_depth(FAST, widths=(32, 64, 128)),
    "fast_large": with_depth(FAST, widths=(128, 384, 512)),
}


def preset(name: str, **overrides) -> ResNetConfig:
    """A configuration by its name in `PRESETS`, with some attributes changed.

    Args:
        name: Such as "resnet20" or "fast".
        **overrides: Attributes of `ResNetConfig`, and `stages`; `stages`, `blocks` and `widths`
            go through `with_depth`.

    Raises:
        ConfigError: for an unknown name or attribute.
    """
    if name not in PRESETS:
        raise ConfigError(f"Model {name!r} is unknown. Choose one of {tuple(PRESETS)}.")
    depth = {key: overrides.pop(key, None) for key in ("stages", "blocks", "widths")}
    _check_names(overrides)
    return replace(with_depth(PRESETS[name], **depth), **overrides)


def _check_names(values) -> None:
    known = tuple(field.name for field in fields(ResNetConfig))
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"A ResNet has no {', '.join(unknown)}. It has {', '.join(known)}.")
