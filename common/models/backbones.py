"""Pretrained networks that turn an image into features of its regions."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from common.errors import ConfigError, DataError
from common.layers import PixelRange
from common.paths import data_dir, expand

SIZE = 224  # height and width of the images, in pixels: 7x7 regions


@dataclass(frozen=True)
class Family:
    """One architecture of `keras.applications`.

    Attributes:
        make: Its function.
        range: What it wants of pixels, see `PixelRange`.
        file: The name of its ImageNet weights without the classifier, as Keras downloads them.
        alphas: Width multipliers that there are weights for; none for networks of one width.
        depths: Layers at an eighth, a sixteenth and a thirty-second of the image's side.
    """

    make: Callable[..., keras.Model]
    range: str
    file: str
    alphas: tuple[float, ...] = ()
    depths: tuple[str, ...] = ()


BACKBONES = {
    "mobilenet": Family(
        keras.applications.MobileNet,
        "signed",
        "mobilenet_{alpha}_224_tf_no_top.h5",
        (0.25, 0.5, 0.75, 1.0),
        ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
    ),
    "resnet50": Family(
        keras.applications.ResNet50,
        "caffe",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        depths=("conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    ),
    "efficientnetb0": Family(
        keras.applications.EfficientNetB0,
        "raw",
        "efficientnetb0_notop.h5",
        depths=("block3b_add", "block5c_add", "top_activation"),
    ),
}
_ALPHA_IN_FILE = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}


def backbone(name: str, weights: str | Path = "imagenet", *, seed: int = 0) -> keras.Model:
    """A network without its classifier: raw pixels in, features of 7x7 regions out.

    Args:
        name: "mobilenet", "resnet50" or "efficientnetb0"; for a MobileNet of another width
            "mobilenet_0.75" (any positive width, but ImageNet's weights are of 0.25, 0.5, 0.75
            and 1).
        weights: "imagenet": from `COURSE_DATA/weights` if the file lies there, else Keras
            downloads it; "random", from `seed`; or the path of a weights file.
        seed: Of random weights.

    Returns:
        A model from uint8 `(B, 224, 224, 3)`, red first, to float32 `(B, 7, 7, channels)`, with
        the scaling of pixels inside and float32 throughout: features do not depend on the device.

    Raises:
        ConfigError: for an unknown name.
        DataError: if the weights cannot be had or do not fit; says where they belong.
    """
    inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    network, x = _network(name, weights, inputs, SIZE, seed)
    return keras.Model(inputs, network(x, training=False), name=_as_name(name))


def pooled_backbone(
    name: str, weights: str | Path = "imagenet", *, size: int = 96, seed: int = 0
) -> keras.Model:
    """A network that describes a whole image of any size: the means of its maps at three depths.

    Shallow maps tell of texture, deep ones of objects. For images that are unlike ImageNet's the
    former are often worth more.

    Args:
        name, weights, seed: As for `backbone`.
        size: Side in pixels that images are brought to.

    Returns:
        A model from uint8 `(B, height, width, 3)`, red first, to float32 `(B, channels)`, those of
        the shallowest depth first.

    Raises:
        ConfigError, DataError: as `backbone`.
    """
    inputs = keras.Input((None, None, 3), dtype="uint8", name="images")
    network, x = _network(name, weights, inputs, size, seed)
    layers = [network.get_layer(depth) for depth in _parse(name)[0].depths]
    maps = keras.Model(network.input, [layer.output for layer in layers])(x, training=False)
    means = [keras.ops.mean(values, axis=(1, 2)) for values in maps]
    return keras.Model(
        inputs, keras.ops.concatenate(means, axis=-1), name=f"{_as_name(name)}_means"
    )


def _network(name, weights, inputs, size, seed) -> tuple[keras.Model, keras.KerasTensor]:
    """The network of `keras.applications`, and the images as it wants them, `size` pixels wide."""
    family, alpha = _parse(name)
    x = inputs
    if inputs.shape[1] != size:
        x = keras.layers.Resizing(size, size, dtype="float32", name="resizing")(x)
    x = PixelRange(family.range, dtype="float32", name="pixels")(x)
    width = {"alpha": alpha} if family.alphas else {}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        if weights == "random":
            keras.utils.set_random_seed(seed)
        network = family.make(include_top=False, weights=None, input_shape=(size, size, 3), **width)
    finally:
        keras.config.set_dtype_policy(before)
    network.trainable = False
    if weights != "random":
        _load(network, name, family, alpha, weights)
    return network, x


def weights_path(name: str) -> Path:
    """Where the ImageNet weights of a backbone belong under `COURSE_DATA`."""
    family, alpha = _parse(name)
    if family.alphas and alpha not in family.alphas:
        raise ConfigError(
            f"There are no ImageNet weights for {name!r}, only for the widths "
            f"{', '.join(map(str, family.alphas))}. Choose one of them, or weights='random'."
        )
    file = family.file.format(alpha=_ALPHA_IN_FILE.get(alpha))
    return data_dir() / "weights" / file


def weights_hash(model: keras.Model) -> str:
    """Sixteen digits that tell a network's weights from all others.

    Of the tensors, in order, as float32: the same weights from files of different formats have
    the same hash.
    """
    digest = hashlib.sha256()
    for weight in model.get_weights():
        array = np.ascontiguousarray(weight, "float32")
        digest.update(f"{array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()[:16]


def _parse(name: str) -> tuple[Family, float]:
    match = re.fullmatch(r"([a-z0-9]+?)(?:_(\d+(?:\.\d+)?))?", name)
    family = BACKBONES.get(match[1]) if match else None
    alpha = float(match[2]) if match and match[2] else 1.0
    if family is None or (match[2] and not family.alphas) or alpha <= 0:
        raise ConfigError(
            f"backbone={name!r} is unknown. Choose one of {', '.join(BACKBONES)}; a MobileNet of "
            "another width as mobilenet_0.75."
        )
    return family, alpha


def _as_name(name: str) -> str:
    return name.replace(".", "_")


def _load(network: keras.Model, name: str, family: Family, alpha: float, weights) -> None:
    if weights == "imagenet":
        path = weights_path(name)
        # Keras's own download, or the same tensors in Keras 3's format.
        places = (path, path.with_name(f"{path.stem}.weights.h5"))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            _copy_downloaded(network, name, family, alpha, places)
            return
    else:
        path = expand(weights)
        if not path.is_file():
            raise DataError(
                f"There is no file of weights of {name} at {path}. Put it there again, or name "
                "another one (--param weights=...)."
            )
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is damaged or not the weights of {name} without its classifier: {error}"
        ) from error


def _copy_downloaded(network, name, family, alpha, places) -> None:
    width = {"alpha": alpha} if family.alphas else {}
    try:
        downloaded = family.make(
            include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3), **width
        )
    except Exception as error:  # Keras raises bare exceptions where a download fails
        raise DataError(
            f"The ImageNet weights of {name} are not at {places[0]} (nor {places[1].name} beside "
            f"it) and could not be downloaded: {error}\nPut the file there. (Lessons of phase 3 "
            "can be tried out without it, by --param weights=random.)"
        ) from error
    network.set_weights(downloaded.get_weights())
