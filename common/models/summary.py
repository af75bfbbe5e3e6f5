"""What a model costs: parameters and multiply-adds, layer by layer."""

import keras
import pandas as pd

from common.layers import PatchWhitening
from common.models.resnet import ResNetConfig
from common.models.resnet.config import BLOCKS

COUNTED = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    PatchWhitening,
)


def model_summary_table(model: keras.Model, input_size: int = 32) -> pd.DataFrame:
    """One row for each layer of a model at one image size.

    A multiply-add (MAC) is one multiplication and one addition, so 2 floating-point operations.
    Those of convolutions and dense layers are counted, one forward pass of one image; all else
    (normalisation, activation, pooling, scaling) is some percent of them and is left out.

    Args:
        model: A functional model with one image input.
        input_size: Height and width of the image.

    Returns:
        Columns `layer`, `type`, `output_shape` (without the batch), `parameters` (trainable or
        not), `macs` and `flops` (`2 macs`).
    """
    images = model.inputs[0]
    shape = (input_size, input_size, images.shape[-1])
    image = keras.Input(shape, dtype=images.dtype, name=images.name)
    sized = keras.models.clone_model(model, input_tensors=image)
    rows = [
        {
            "layer": layer.name,
            "type": type(layer).__name__,
            "output_shape": tuple(layer.output.shape[1:]),
            "parameters": layer.count_params(),
            "macs": sum(_macs(part) for part in layer._flatten_layers()),
        }
        for layer in sized.layers
    ]
    table = pd.DataFrame(rows)
    return table.assign(flops=2 * table["macs"])


def count_macs(model: keras.Model, input_size: int = 32) -> int:
    """Multiply-adds of one forward pass of one image; see `model_summary_table`."""
    return int(model_summary_table(model, input_size)["macs"].sum())


def receptive_fields(config: ResNetConfig, input_size: int) -> pd.DataFrame:
    """How much of the image a unit at the end of each stage sees.

    Going through the windows of convolutions and poolings in order, with `k` pixels and stride
    `s`: the field grows by `(k - 1) j`, and the step `j` between neighbouring units is multiplied
    by `s`. Units near a border see less, and all of them more of the middle than of the rim.

    Args:
        config: The network.
        input_size: Side of the images; those that the network shrinks count as shrunk.

    Returns:
        A row per stage: `side` of its feature maps, `step` and `field` in pixels of the image that
        the first convolution gets.
    """
    stem = {"conv3x3": [(3, 1)], "conv7x7": [(7, 2), (3, 2)], "whitening": [(2, 1)]}[config.stem]
    side = config.image_size or input_size
    side = side - 1 if config.stem == "whitening" else side
    field, step, rows = 1, 1, []
    for stage in range(config.stages):
        windows = stem if stage == 0 else []
        if config.downsample == "pool":
            windows = [*windows, (3, 1), (2, 2)]
        for block in range(config.blocks[stage]):
            halves = config.downsample == "stride" and stage > 0 and block == 0
            convolutions = BLOCKS[config.block](1, stride=2 if halves else 1).convolutions()
            windows = [*windows, *((kernel, stride) for kernel, _, stride in convolutions)]
        for kernel, stride in windows:
            field += (kernel - 1) * step
            step *= stride
            if stride > 1:  # poolings of stages leave a last odd row out, strides do not
                side = side // 2 if config.downsample == "pool" and kernel == 2 else -(-side // 2)
        rows.append({"stage": stage + 1, "side": side, "step": step, "field": field})
    return pd.DataFrame(rows).set_index("stage")


def _macs(layer) -> int:
    """Each weight of the kernel is used once at each position of the output."""
    if not isinstance(layer, COUNTED):
        return 0
    output_shape = layer.compute_output_shape(layer.get_build_config()["input_shape"])
    macs = 1
    for size in (*output_shape[1:-1], *layer.kernel.shape):
        macs *= size
    return macs
