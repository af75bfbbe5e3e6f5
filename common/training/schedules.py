"""Learning-rate schedules and the learning-rate range test."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to the peak, then falls linearly to 0 at the last step.

    1. `t = step / total_steps`
    2. `rise = (t + 0.5 / total_steps) / warmup`: half a step more, or the first would be wasted
    3. `fall = (1 - t) / (1 - warmup)`
    4. `lr = peak * min(rise, fall, 1)`

    The triangle of Smith and Topin, "Super-Convergence" (2017), without its last phase.

    Args:
        peak: Highest learning rate.
        total_steps: Steps of the whole training.
        warmup: Share of the steps that rise, in [0, 1).
    """

    def __init__(self, peak: float, total_steps: int, warmup: float = 0.2):
        super().__init__()
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be at least 1. Received: {total_steps}")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be in [0, 1). Received: {warmup}")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup = warmup

    def __call__(self, step):
        t = ops.cast(step, "float32") / self.total_steps
        fall = ops.maximum(1.0 - t, 0.0) / (1.0 - self.warmup)
        rise = (t + 0.5 / self.total_steps) / self.warmup if self.warmup else fall
        return self.peak * ops.minimum(ops.minimum(rise, fall), 1.0)

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup": self.warmup}
