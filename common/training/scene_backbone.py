"""The backbone of the built-in scenes: a small ResNet that has learned what stands where."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from common.data.images import ImageData
from common.data.scene_captions import COLOURS
from common.data.synthetic_scenes import LABELS, scene_labels, synthetic_scenes
from common.errors import DataError
from common.files import read_json
from common.models.resnet import ResNetConfig, resnet, with_pixel_statistics
from common.training.backend import (
    DeviceSettings,
    device_scope,
    device_settings,
    dtype_policy,
    hardware,
)
from common.training.batches import ImageBatches
from common.training.loop import Supervision
from common.training.released import released_folder
from common.training.runs import check_files, git_revision, read_record, versions
from common.training.schedules import OneCycle
from common.training.store import (
    CAPTIONING,
    RESTORE,
    WEIGHTS,
    load_weights,
    write_half,
    write_record,
)

SIZE = 48  # height and width of the scenes in pixels
CELLS = 3  # rows and columns that the labels tell of

# Three stages, each half as large as the one before, end in 6x6 regions.
NETWORK = ResNetConfig(
    blocks=(1, 1, 1, 1), widths=(16, 32, 64, 96), shortcut="B", norm_momentum=0.9
)
COLOUR_LABELS = [LABELS.index(colour) for colour in COLOURS]
EPOCHS = 10
BATCH = 100
PEAK = 3e-3


def scene_network(config: ResNetConfig, name: str = "scenes") -> tuple[keras.Model, keras.Model]:
    """An untrained backbone, and the same with the head that it is trained with.

    Returns:
        From uint8 `(B, 48, 48, 3)` to features `(B, 6, 6, channels)`; and to logits
        `(B, 3, 3, 13)`, one per third of height and width and entry of `LABELS`.
    """
    whole = resnet(config, 1, (SIZE, SIZE, 3))
    maps = whole.get_layer("features").input
    backbone = keras.Model(whole.input, maps, name=name)
    x = keras.layers.AveragePooling2D(maps.shape[1] // CELLS, name="cells")(maps)
    logits = keras.layers.Dense(len(LABELS), dtype="float32", name="labels")(x)
    return backbone, keras.Model(whole.input, logits, name=f"{name}_with_head")


class _WithLabels(ImageBatches):
    """Batches of scenes with what stands in each cell.

    Half of the scenes are tinted, and not asked for their colours (-1). Else the network learns
    pairs by heart: it has never seen a red triangle, and would tell the shape of one by its colour.
    """

    def __init__(self, data, targets, *arguments, **options):
        self.targets = targets
        super().__init__(data, *arguments, **options)

    def __getitem__(self, i):
        index = self.indices(i)
        images, targets = self.images[index], self.targets[index]  # copies
        rng = np.random.default_rng([self.seed, self.epoch, i, 2])
        tinted = np.flatnonzero(rng.random(len(index)) < 0.5)
        # Each new channel is a mixture of the old ones.
        mixtures = rng.dirichlet((0.5, 0.5, 0.5), (len(tinted), 3)).astype("float32")
        mixed = np.einsum("bhwc,bdc->bhwd", images[tinted], mixtures)
        images[tinted] = mixed.astype("uint8")
        targets[tinted[:, None], :, :, COLOUR_LABELS] = -1
        return images, targets


def asked_cross_entropy(targets, logits):
    """Mean binary cross-entropy of the answers that are asked for: targets 0 or 1, not -1."""
    targets, logits = ops.cast(targets, "float32"), ops.cast(logits, "float32")
    losses = ops.softplus(logits) - targets * logits
    asked = ops.cast(targets >= 0, "float32")
    return ops.sum(losses * asked) / ops.maximum(ops.sum(asked), 1.0)


def train_scene_backbone(
    seed: int = 0,
    epochs: int = EPOCHS,
    scenes: int | None = None,
    settings: DeviceSettings | None = None,
    progress: bool = True,
) -> tuple[keras.Model, keras.Model, pd.DataFrame]:
    """Trains the backbone to tell shape, colour and size of what stands in each third.

    Args:
        seed: Of weights and order.
        epochs: Passes over the training scenes.
        scenes: How many of them, the first ones; by default all.
        settings: From `device_settings`.
        progress: Show a progress bar.

    Returns:
        Backbone and backbone with head, as `scene_network`, and the history.
    """
    settings = settings or device_settings()
    train = synthetic_scenes("train", scenes)
    images = ImageData(
        images=train.pixels,
        labels=np.zeros(len(train), "int32"),
        classes=("scene",),
        name="scenes",
        split="train",
    )
    config = with_pixel_statistics(NETWORK, train.pixels)
    batches = _WithLabels(images, scene_labels(train.scenes), BATCH, seed, drop_remainder=True)
    with device_scope(settings):
        keras.utils.set_random_seed(seed)
        backbone, model = scene_network(config)
        model.compile(
            keras.optimizers.AdamW(OneCycle(PEAK, len(batches) * epochs, 0.2), weight_decay=0.01),
            asked_cross_entropy,
            jit_compile=settings.jit_compile,
        )
        model.optimizer.build(model.trainable_variables)
        supervision = Supervision(
            model, batches, epochs, seed, progress=progress, name=backbone.name
        )
        supervision.fit(None)
    return backbone, model, supervision.result().history


def judge_scenes(model: keras.Model, split: str, count: int | None = None) -> dict:
    """Shares of right answers of a backbone with its head.

    Returns:
        `n` scenes; `labels`: of all 9 x 13 answers; `objects`: of objects with all their answers
        right; `scenes`: of scenes with all answers right; and `held_out_objects`: of objects with a
        colour and shape never seen together in training (`None` where there is none).
    """
    data = synthetic_scenes(split, count)
    truth = scene_labels(data.scenes) > 0.5
    parts = [data.pixels[i : i + BATCH] for i in range(0, len(data), BATCH)]
    found = np.concatenate([ops.convert_to_numpy(model(p, training=False)) for p in parts]) > 0
    right = (found == truth).all(axis=-1)
    there = truth[..., 0]
    odd = np.zeros_like(there)
    for scene, cells in zip(data.scenes, odd, strict=True):
        for thing in scene.objects:
            alone = replace(scene, objects=(thing,))
            cells[thing.row, thing.column] = alone.held_out
    return {
        "n": len(data),
        "labels": float((found == truth).mean()),
        "objects": float(right[there].mean()),
        "scenes": float(right.all(axis=(1, 2)).mean()),
        "held_out_objects": float(right[odd].mean()) if odd.any() else None,
    }


def scene_backbone(head: bool = False) -> keras.Model:
    """The released backbone in float32.

    Args:
        head: With the head that tells what stands where.

    Raises:
        ConfigError: outside a checkout of the repository.
        DataError: if its files are missing or damaged.
    """
    folder = released_folder(CAPTIONING) / "scenes"
    record = read_record(folder)
    check_files(folder, record, RESTORE)
    try:
        with dtype_policy("float32"):
            backbone, model = scene_network(ResNetConfig.from_dict(record["network"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / 'record.json'} describes no backbone ({error}). Restore it with git."
        ) from error
    load_weights(model, folder / WEIGHTS)
    backbone.trainable = False
    return model if head else backbone


def release_scene_backbone(seed: int = 0) -> tuple[Path, dict]:
    """Trains the backbone and writes its weights in half precision, with the record.

    The figures in the record are of the written file, in float32.

    Returns:
        The folder, and the record.
    """
    settings = device_settings()
    _, trained, history = train_scene_backbone(seed, settings=settings)
    folder = released_folder(CAPTIONING) / "scenes"
    config = with_pixel_statistics(NETWORK, synthetic_scenes("train").pixels)
    with dtype_policy("float16"):
        _, half = scene_network(config)
    write_half(trained, half, folder)
    record = {
        "phase": CAPTIONING,
        "dataset": "synthetic",
        "seed": seed,
        "network": config.to_dict(),
        "recipe": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": PEAK},
        "device": settings.to_dict(),
        "loss": float(history["loss"].iloc[-1]),
    }
    write_record(record, folder)  # what the network is made from
    model = scene_backbone(head=True)
    record |= {
        "parameters": model.count_params(),
        "metrics": {
            f"{split}_{name}": value
            for split in ("dev", "test")
            for name, value in judge_scenes(model, split).items()
            if value is not None
        },
        "versions": versions(),
        "git_revision": git_revision(),
        "hardware": hardware(),
    }
    write_record(record, folder)
    return folder, read_json(folder / "record.json")
