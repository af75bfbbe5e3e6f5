"""The operations of a fast network's training step, each alone, in TensorFlow and in PyTorch.

For `benchmarks/against_pytorch.py --profile`.
"""

import time


def operations(config, image_side: int) -> list[dict]:
    """What a training step computes, in order: `what`, `part`, the input's `side` and `channels`.

    Convolutions have `filters` and `kernel`, too; sums, scaling, head and update are left out.
    """
    from common.models.resnet.config import WHITENED_CHANNELS

    found = []

    def add(what, side, channels, *parts, **more):
        found.extend(
            {"what": what, "part": part, "side": side, "channels": channels, **more}
            for part in parts
        )

    gradients = ("forward", "input gradient", "weight gradient")
    channels, side = WHITENED_CHANNELS, image_side - 1
    add("conv", image_side, 3, "forward", filters=channels, kernel=2)
    add("gelu", side, channels, "forward")
    for stage, width in enumerate(config.widths):
        # Backpropagation ends before the stem, so the first convolution has no input gradient.
        parts = gradients if stage else (gradients[0], gradients[2])
        add("conv", side, channels, *parts, filters=width, kernel=3)
        add("pool", side, width, "both")
        side, channels = side // 2, width
        add("norm", side, width, "both")
        add("gelu", side, width, "both")
        add("conv", side, width, *gradients, filters=width, kernel=3)
        add("norm", side, width, "both")
        add("gelu", side, width, "both")
    return found


def tensorflow_operation(operation: dict, options):
    """A function that computes an operation of `operations` once."""
    import keras
    import tensorflow as tf

    from common.layers import gelu_tanh

    side, part = operation["side"], operation["part"]
    shape = (options.batch, side, side, operation["channels"])
    x = tf.cast(tf.random.normal(shape), options.precision)
    if operation["what"] == "conv":
        kernel = operation["kernel"]
        padding = "VALID" if kernel == 2 else "SAME"
        w = tf.random.normal((kernel, kernel, operation["channels"], operation["filters"]))
        w = tf.cast(w, options.precision)
        y = tf.nn.conv2d(x, w, 1, padding)
        more = {"strides": [1, 1, 1, 1], "padding": padding}
        function = {
            "forward": lambda x, w, y: tf.nn.conv2d(x, w, 1, padding),
            "input gradient": lambda x, w, y: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=w, out_backprop=y, **more
            ),
            "weight gradient": lambda x, w, y: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=w.shape, out_backprop=y, **more
            ),
        }[part]
        compiled = tf.function(function)
        return lambda: compiled(x, w, y)
    layer = {
        "gelu": lambda x: gelu_tanh(x),
        "norm": keras.layers.BatchNormalization(scale=False, dtype=options.precision),
        "pool": keras.layers.MaxPooling2D(2, dtype=options.precision),
    }[operation["what"]]
    call = (lambda x: layer(x, training=True)) if operation["what"] == "norm" else layer
    y = call(x)

    @tf.function
    def both(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = call(x)
        return output, tape.gradient(output, [x, *tape.watched_variables()], y)

    compiled = tf.function(call) if part == "forward" else both
    return lambda: compiled(x) if part == "forward" else compiled(x, y)


def pytorch_operation(operation: dict, options):
    """The same in PyTorch."""
    import torch
    from pytorch_networks import gelu_tanh, norm
    from torch import nn

    torch.set_num_threads(options.threads)
    side, part, channels = (operation[key] for key in ("side", "part", "channels"))
    like = {"dtype": getattr(torch, options.precision), "memory_format": torch.channels_last}
    x = torch.randn(options.batch, channels, side, side).to(**like).requires_grad_()
    if operation["what"] == "conv":
        kernel = operation["kernel"]
        layer = nn.Conv2d(channels, operation["filters"], kernel, padding=kernel // 3, bias=False)
    else:
        layer = {"gelu": gelu_tanh, "norm": norm(channels, {}), "pool": nn.MaxPool2d(2)}
        layer = layer[operation["what"]]
    if isinstance(layer, nn.Module):
        layer = layer.to(**like)
    y = layer(x)
    ones = torch.ones_like(y)
    if part == "forward":
        return lambda: layer(x.detach())
    if part == "both":
        weights = [layer.bias] if operation["what"] == "norm" else []
        return lambda: torch.autograd.grad(layer(x), [x, *weights], ones)
    wanted = x if part == "input gradient" else layer.weight
    return lambda: torch.autograd.grad(y, wanted, ones, retain_graph=True)


def flops(operation: dict, batch: int) -> int:
    """Floating-point operations of a convolution, or of one of its gradients."""
    side = operation["side"] - (operation["kernel"] == 2)  # the stem's windows are "valid"
    window = operation["kernel"] ** 2 * operation["channels"] * operation["filters"]
    return 2 * batch * side**2 * window


def seconds_of(call, times: int) -> float:
    """Mean seconds of a call."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times
