"""Muon for convolution kernels, Nesterov SGD for everything else, in one Keras optimizer."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("course")
class Muon(keras.optimizers.Optimizer):
    """Momentum whose update is made orthogonal, for the kernels of convolutions.

    A gradient of a kernel is dominated by a few directions; Muon gives all of them the same
    length. With the kernel written as a matrix `W` of shape `(height * width * in, out)`:

    1. momentum: `M = momentum * M + G`, and `U = G + momentum * M` (Nesterov)
    2. orthogonalise: `U = S V D^T  ->  O ~ S D^T`, by `newton_schulz_steps` steps of
       `X <- a X + (b X X^T + c (X X^T)^2) X`, which needs matrix products only
    3. keep the norm: `W <- W * sqrt(out) / |W|`; batch norm follows a kernel, so only its
       direction matters, and a fixed norm keeps the angle turned per step equal to the
       learning rate
    4. `W <- W - learning_rate * O`

    All other variables (biases, batch norm, dense kernels) take SGD with Nesterov momentum at
    the learning rates given for them, all under the same schedule. Jordan et al., "Muon: an
    optimizer for hidden layers in neural networks" (2024), as set up in cifar10-airbench.
    (`keras.optimizers.Muon` leaves convolution kernels to AdamW.)

    Args:
        learning_rate: For convolution kernels; a float or a schedule.
        momentum: Of the kernels.
        other_learning_rate: Peak for biases and batch norm, when `learning_rate` is at
            `peak_learning_rate`.
        head_learning_rate: Peak for dense kernels.
        peak_learning_rate: The highest value of `learning_rate`; only the ratio matters.
        other_momentum: Nesterov momentum of the variables that are no convolution kernels.
        newton_schulz_steps: Iterations of step 2; 0 for `O = U sqrt(rank) / |U|`, which is as
            long and keeps the momentum's direction.
        **kwargs: Those of every optimizer of Keras, such as `use_ema`.
    """

    def __init__(
        self,
        learning_rate=0.24,
        momentum=0.6,
        other_learning_rate=0.05,
        head_learning_rate=0.6,
        peak_learning_rate=0.24,
        other_momentum=0.85,
        newton_schulz_steps=3,
        name="muon",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.other_learning_rate = other_learning_rate
        self.head_learning_rate = head_learning_rate
        self.peak_learning_rate = peak_learning_rate
        self.other_momentum = other_momentum
        self.newton_schulz_steps = newton_schulz_steps

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = [
            self.add_variable_from_reference(variable, name="momentum") for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        is_kernel = len(variable.shape) == 4
        momentum = self.momentum if is_kernel else self.other_momentum
        buffer = self._momentums[self._get_variable_index(variable)]
        self.assign(buffer, buffer * momentum + gradient)
        update = gradient + momentum * buffer
        if is_kernel:
            norm = ops.norm(ops.reshape(variable, (-1,))) + 1e-7
            scale = math.sqrt(variable.shape[-1]) / norm
            direction = orthogonalise(update, self.newton_schulz_steps)
            self.assign(variable, variable * scale - learning_rate * direction)
        else:
            peak = self.head_learning_rate if len(variable.shape) == 2 else self.other_learning_rate
            self.assign_sub(variable, learning_rate * (peak / self.peak_learning_rate) * update)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "other_learning_rate": self.other_learning_rate,
            "head_learning_rate": self.head_learning_rate,
            "peak_learning_rate": self.peak_learning_rate,
            "other_momentum": self.other_momentum,
            "newton_schulz_steps": self.newton_schulz_steps,
        }


def orthogonalise(matrix, steps: int = 3):
    """The orthogonal matrix nearest to a kernel, roughly, by Newton-Schulz iterations.

    Singular values that lie within a factor of 30 of each other end between 0.5 and 1.5, which is
    near enough for an update. Small ones need more steps: of values spread evenly on a logarithmic
    scale from 1 to 1e-3, 3 steps leave 48 % below 0.5, 5 steps 14 %.

    Args:
        matrix: `(..., out)`; all axes but the last are flattened into one.
        steps: Iterations; 3 to 5. With 0 the matrix is scaled to the length of an orthogonal one.

    Returns:
        A tensor of the same shape.
    """
    shape = matrix.shape
    x = ops.reshape(matrix, (-1, shape[-1]))
    tall = x.shape[0] > x.shape[1]
    x = ops.transpose(x) if tall else x  # the smaller side first: smaller products
    x = x / (ops.norm(x) + 1e-7)
    if steps == 0:
        x = x * math.sqrt(x.shape[0])
    for _ in range(steps):
        square = x @ ops.transpose(x)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    x = ops.transpose(x) if tall else x
    return ops.reshape(x, shape)
