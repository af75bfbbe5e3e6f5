"""What a model costs: parameters and multiply-adds, layer by layer."""

import keras
import pandas as pd

from common.layers import PatchWhitening

COUNTED = (keras.layers.Conv2D, keras.layers.Dense, PatchWhitening)


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


def _macs(layer) -> int:
    """Each weight of the kernel is used once at each position of the output."""
    if not isinstance(layer, COUNTED):
        return 0
    output_shape = layer.compute_output_shape(layer.get_build_config()["input_shape"])
    macs = 1
    for size in (*output_shape[1:-1], *layer.kernel.shape):
        macs *= size
    return macs
