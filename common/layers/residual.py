"""Residual blocks: the bricks of a ResNet, and the plain blocks they are compared with.

All layers take feature maps of shape `(batch, height, width, channels)`.
"""

import keras
from keras import ops

from common.layers.activations import get_activation


@keras.saving.register_keras_serializable("course")
class SqueezeExcitation(keras.layers.Layer):
    """Lets a network weigh its channels by what the whole image shows.

    1. Squeeze: `z = mean of x over height and width`, one number per channel, `(batch, c)`.
    2. Excite: `s = sigmoid(W2 relu(W1 z + b1) + b2)`, through `c / ratio` hidden units.
    3. Rescale: `y = s * x`, each channel by its own number in 0..1.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (2018).

    Args:
        ratio: How many times fewer hidden units than channels (at least one unit).

    Call arguments:
        inputs: `(batch, height, width, channels)`.

    Returns:
        A tensor of the same shape.
    """

    def __init__(self, ratio: int = 16, **kwargs):
        super().__init__(**kwargs)
        if ratio < 1:
            raise ValueError(f"`ratio` must be at least 1. Received: ratio={ratio}")
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(1, channels // self.ratio)
        policy = self.dtype_policy
        self.reduce = keras.layers.Dense(hidden, "relu", dtype=policy, name="reduce")
        self.expand = keras.layers.Dense(channels, "sigmoid", dtype=policy, name="expand")
        self.reduce.build((input_shape[0], 1, 1, channels))
        self.expand.build((input_shape[0], 1, 1, hidden))

    def call(self, inputs):
        squeezed = ops.mean(inputs, axis=(1, 2), keepdims=True)  # (batch, 1, 1, channels)
        return inputs * self.expand(self.reduce(squeezed))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


class ResidualBlock(keras.layers.Layer):
    """Base of the residual blocks: a few convolutions `F` and a shortcut around them.

    Stacking more layers should never hurt: the new ones could copy their input. Yet plain deep
    networks train worse than shallow ones, because a copy is hard to learn. A residual block
    copies by construction and learns only the difference:

    Post-activation (He et al. 2015), `preactivation=False`:

    1. `y = x`; for each convolution `y = norm(conv(y))`, with an activation between two of them.
    2. `y = squeeze_excitation(y)`, if asked for.
    3. `output = activation(shortcut(x) + y)`.

    Pre-activation (He et al. 2016), `preactivation=True`, where the path from block to block is
    free of any non-linearity:

    1. `y = x`; for each convolution `y = conv(activation(norm(y)))`.
    2. `y = squeeze_excitation(y)`, if asked for.
    3. `output = shortcut(x) + y`; where the shape changes, the shortcut starts behind the first
       activation instead of at `x`.

    The shortcut is the identity where the shape stays. Where stride or channels change it is

    - `"A"`: every `stride`-th pixel, and zeros for the new channels. No parameters.
    - `"B"`: a 1x1 convolution (and normalisation, in post-activation order).

    "Same" padding at stride 2 begins at the first pixel where sides are even, torchvision's one
    pixel before it: weights made for the one do not fit the other.

    A subclass lists its convolutions in `convolutions`.

    Sources: He et al., "Deep Residual Learning for Image Recognition" (2015), and "Identity
    Mappings in Deep Residual Networks" (2016).

    Args:
        filters: Channels of the block's 3x3 convolutions.
        stride: Stride of its first 3x3 convolution.
        shortcut: `"A"` or `"B"`.
        preactivation: Whether normalisation and activation come before each convolution.
        activation: Name of the activation, or a function.
        squeeze_excitation: Ratio of a `SqueezeExcitation` at the end of `F`; 0 for none.
        zero_init_last: Start with `F = 0`, the block being its shortcut: the last normalisation's
            scale (in pre-activation order the last convolution's kernel) starts at 0.
        residual: `False` leaves the shortcut out: the plain block to compare with.
        norm_momentum: Share of the old running statistics in the new ones.
        norm_epsilon: Added to the variance.
        norm_scale: Whether batch normalisation has a trainable scale (its offset always is).
        kernel_initializer: Of all convolutions.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        training: Whether batch normalisation uses the batch's own statistics.

    Returns:
        `(batch, ceil(height / stride), ceil(width / stride), filters * expansion)`.
    """

    expansion = 1  # channels of the output per filter

    def __init__(
        self,
        filters: int,
        stride: int = 1,
        shortcut: str = "A",
        preactivation: bool = False,
        activation="relu",
        squeeze_excitation: int = 0,
        zero_init_last: bool = False,
        residual: bool = True,
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_scale: bool = True,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if filters < 1 or stride < 1:
            raise ValueError(
                "`filters` and `stride` must be at least 1. "
                f"Received: filters={filters}, stride={stride}"
            )
        if shortcut not in ("A", "B"):
            raise ValueError(f"`shortcut` must be 'A' or 'B'. Received: shortcut={shortcut}")
        if squeeze_excitation < 0:
            raise ValueError(
                "`squeeze_excitation` must be a ratio, or 0 for none. "
                f"Received: squeeze_excitation={squeeze_excitation}"
            )
        if zero_init_last and not residual:
            raise ValueError("`zero_init_last` needs a shortcut: a plain block would output 0.")
        if zero_init_last and not (norm_scale or preactivation):
            raise ValueError("`zero_init_last` needs the scale that norm_scale=False leaves out.")
        self.filters = filters
        self.stride = stride
        self.shortcut = shortcut
        self.preactivation = preactivation
        self.activation = get_activation(activation)
        self.squeeze_excitation = squeeze_excitation
        self.zero_init_last = zero_init_last
        self.residual = residual
        self.norm_momentum = norm_momentum
        self.norm_epsilon = norm_epsilon
        self.norm_scale = norm_scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def convolutions(self) -> list[tuple[int, int, int]]:
        """The convolutions of `F` in order, each `(kernel_size, filters, stride)`."""
        raise NotImplementedError

    def build(self, input_shape):
        output_shape = self.compute_output_shape(input_shape)
        shape = input_shape
        self.convs, self.norms = [], []
        for number, (kernel_size, filters, stride) in enumerate(self.convolutions(), start=1):
            last = number == len(self.convolutions())
            zero_init = self.zero_init_last and last
            conv = self._conv(kernel_size, filters, stride, f"conv{number}", zero_init)
            norm = self._norm(f"norm{number}", zero_init)
            conv.build(shape)
            conv_shape = conv.compute_output_shape(shape)
            norm.build(shape if self.preactivation else conv_shape)
            shape = conv_shape
            self.convs.append(conv)
            self.norms.append(norm)
        self.excitation = None
        if self.squeeze_excitation:
            self.excitation = SqueezeExcitation(
                self.squeeze_excitation, dtype=self.dtype_policy, name="excitation"
            )
            self.excitation.build(output_shape)
        self._build_shortcut(input_shape, output_shape)

    def _build_shortcut(self, input_shape, output_shape):
        self.changes_shape = self.stride > 1 or input_shape[-1] != output_shape[-1]
        self.extra_channels = output_shape[-1] - input_shape[-1]
        self.projection = self.projection_norm = None
        if not (self.residual and self.changes_shape):
            return
        if self.shortcut == "B":
            self.projection = self._conv(1, output_shape[-1], self.stride, "projection")
            self.projection.build(input_shape)
            if not self.preactivation:
                self.projection_norm = self._norm("projection_norm")
                self.projection_norm.build(output_shape)
        elif self.extra_channels < 0:
            raise ValueError(
                "Shortcut 'A' can add channels but not remove them: take 'B'. "
                f"Received: {input_shape[-1]} channels, to become {output_shape[-1]}"
            )

    def call(self, inputs, training=None):
        order = self._preactivated if self.preactivation else self._postactivated
        return order(inputs, training)

    def _postactivated(self, x, training):
        y = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if number > 0:
                y = self.activation(y)
            y = norm(conv(y), training=training)
        return self.activation(self._add_shortcut(x, self._excite(y), training))

    def _preactivated(self, x, training):
        y = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = self.activation(norm(y, training=training))
            if number == 0 and self.changes_shape:
                x = y
            y = conv(y)
        return self._add_shortcut(x, self._excite(y), training)

    def _excite(self, y):
        return y if self.excitation is None else self.excitation(y)

    def _add_shortcut(self, x, y, training):
        """`shortcut(x) + y`, or `y` alone in a plain block."""
        if not self.residual:
            return y
        if self.projection is not None:
            x = self.projection(x)
            if self.projection_norm is not None:
                x = self.projection_norm(x, training=training)
        elif self.changes_shape:
            x = x[:, :: self.stride, :: self.stride, :]
            x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, self.extra_channels]])
        return x + y

    def _conv(self, kernel_size, filters, stride, name, zero_init=False):
        # In pre-activation order a zero scale before an activation would stop all gradients, so
        # there it is the kernel that starts at zero.
        zero_kernel = zero_init and self.preactivation
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=stride,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            # Layers that shared one initialiser would all get the same random numbers.
            kernel_initializer="zeros" if zero_kernel else _clone(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm(self, name, zero_init=False):
        zero_scale = zero_init and not self.preactivation
        return keras.layers.BatchNormalization(
            momentum=self.norm_momentum,
            epsilon=self.norm_epsilon,
            scale=self.norm_scale,
            gamma_initializer="zeros" if zero_scale else "ones",
            dtype=self.dtype_policy,
            name=name,
        )

    def compute_output_shape(self, input_shape):
        sides = [None if side is None else -(-side // self.stride) for side in input_shape[1:3]]
        return (input_shape[0], *sides, self.filters * self.expansion)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "stride": self.stride,
            "shortcut": self.shortcut,
            "preactivation": self.preactivation,
            "activation": keras.activations.serialize(self.activation),
            "squeeze_excitation": self.squeeze_excitation,
            "zero_init_last": self.zero_init_last,
            "residual": self.residual,
            "norm_momentum": self.norm_momentum,
            "norm_epsilon": self.norm_epsilon,
            "norm_scale": self.norm_scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("course")
class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18, -34 and the CIFAR ResNets.

    `F`: conv 3x3, `filters`, stride -> conv 3x3, `filters`. Steps, arguments and shapes: see
    `ResidualBlock`.
    """

    def convolutions(self):
        return [(3, self.filters, self.stride), (3, self.filters, 1)]


@keras.saving.register_keras_serializable("course")
class BottleneckBlock(ResidualBlock):
    """A 3x3 convolution between two 1x1 ones that narrow and widen: the block of ResNet-50.

    `F`: conv 1x1, `filters` -> conv 3x3, `filters`, stride -> conv 1x1, `4 filters`. The costly
    3x3 convolution works on a quarter of the channels. The stride stands in the 3x3 convolution,
    where it skips no pixel, as is usual today; He et al. (2015) had it in the first 1x1. Steps,
    arguments and shapes: see `ResidualBlock`.
    """

    expansion = 4

    def convolutions(self):
        return [
            (1, self.filters, 1),
            (3, self.filters, self.stride),
            (1, self.filters * self.expansion, 1),
        ]


@keras.saving.register_keras_serializable("course")
class SingleConvBlock(ResidualBlock):
    """One 3x3 convolution and a shortcut: the cheapest residual block, for shallow fast nets.

    Its post-activation order differs from `ResidualBlock`'s: with one convolution the activation
    has to stand inside `F`, or the block would be linear but for its end.

    1. `y = activation(norm(conv(x)))`.
    2. `y = squeeze_excitation(y)`, if asked for.
    3. `output = shortcut(x) + y`.

    Arguments and shapes: see `ResidualBlock`. `zero_init_last` is for the pre-activation order
    only: a zero scale before the activation would stop the gradient of a relu for good.
    """

    def __init__(self, filters: int, *args, **kwargs):
        super().__init__(filters, *args, **kwargs)
        if self.zero_init_last and not self.preactivation:
            raise ValueError("SingleConvBlock takes `zero_init_last` only with `preactivation`.")

    def convolutions(self):
        return [(3, self.filters, self.stride)]

    def _postactivated(self, x, training):
        y = self.activation(self.norms[0](self.convs[0](x), training=training))
        return self._add_shortcut(x, self._excite(y), training)


@keras.saving.register_keras_serializable("course")
class PooledTransition(keras.layers.Layer):
    """Goes from one stage to the next: more channels, half the resolution.

    1. `y = conv3x3(x)`, without bias.
    2. `y = max of each 2x2 square of y`.
    3. `output = activation(norm(y))`.

    A stride would compute a quarter of the convolution; pooling computes all of it and keeps the
    strongest response, and what follows it runs on a quarter of the pixels.

    Source: Page, "How to Train Your ResNet" (2018).

    Args:
        filters: Channels of the output.
        activation: Name of the activation, or a function.
        norm_momentum, norm_epsilon, norm_scale, kernel_initializer: See `ResidualBlock`.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        training: Whether batch normalisation uses the batch's own statistics.

    Returns:
        `(batch, height // 2, width // 2, filters)`.
    """

    def __init__(
        self,
        filters: int,
        activation="relu",
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_scale: bool = True,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"`filters` must be at least 1. Received: filters={filters}")
        self.filters = filters
        self.activation = get_activation(activation)
        self.norm_momentum = norm_momentum
        self.norm_epsilon = norm_epsilon
        self.norm_scale = norm_scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.conv = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.pool = keras.layers.MaxPooling2D(
            2, data_format="channels_last", dtype=self.dtype_policy, name="pool"
        )
        self.norm = keras.layers.BatchNormalization(
            momentum=norm_momentum,
            epsilon=norm_epsilon,
            scale=norm_scale,
            dtype=self.dtype_policy,
            name="norm",
        )

    def build(self, input_shape):
        self.conv.build(input_shape)
        conv_shape = self.conv.compute_output_shape(input_shape)
        self.pool.build(conv_shape)
        self.norm.build(self.pool.compute_output_shape(conv_shape))

    def call(self, inputs, training=None):
        pooled = self.pool(self.conv(inputs))
        return self.activation(self.norm(pooled, training=training))

    def compute_output_shape(self, input_shape):
        sides = [None if side is None else side // 2 for side in input_shape[1:3]]
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
            "norm_momentum": self.norm_momentum,
            "norm_epsilon": self.norm_epsilon,
            "norm_scale": self.norm_scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _clone(initializer):
    """Another one of its kind; a function is its own."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer
