"""Images per second: our `fit` against plain Keras `fit`, side by side in one run.

    python benchmarks/throughput.py [--models fast resnet20] [--rounds 3] [--seconds 20]

Plain: the same network, `model.compile(optimizer, loss)` and `model.fit(x, y)` with Keras's
defaults, no augmentation, in a process in which nothing of the course is set. Ours: `fit` of the
course with device settings, augmentation, batch transforms and metrics, at the images' full size
(`ours`) and with the recipe's progressive sizes (`recipe`). Each measurement is a process of its
own; the variants take turns, and the ratios are of the medians over the rounds. Also printed: the
share of a step that input and augmentation cost, and which operations fill the step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 256
IMAGES = 256 * 10


def noise(count: int):
    """Random images with random labels: speed does not depend on what they show."""
    from common.data.images import ImageData

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, count).astype("int32")
    classes = tuple(str(i) for i in range(10))
    return ImageData(images=images, labels=labels, classes=classes, name="noise", split="train")


def child(variant: str, model: str, seconds: float) -> dict:
    """Measures one variant in this process."""
    if variant == "plain":
        import tensorflow  # noqa: F401  before `common`, which sets TensorFlow's environment
    else:
        import common  # noqa: F401  before TensorFlow
    import keras

    from common.models.resnet import preset, resnet
    from common.training.backend import device_scope, device_settings
    from common.training.experiment import build
    from common.training.fit import fit
    from common.training.recipes import recipe

    data = noise(IMAGES)
    config = preset(model)
    if variant == "plain":
        network = resnet(config)
        network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        network.fit(data.images[:BATCH], data.labels[:BATCH], batch_size=BATCH, verbose=0)
        rate, epochs, start = 0.0, 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            network.fit(data.images, data.labels, batch_size=BATCH, verbose=0)
            epochs += 1
            rate = epochs * IMAGES / (time.perf_counter() - start)
        return {"images_per_second": rate}

    changes = {"batch_size": BATCH, "epochs": 10}
    if variant != "recipe":
        changes["sizes"] = ()
    if variant == "bare":
        changes |= {"flip": "none", "shift": 0, "cutout": 0}
    plan = recipe("laptop", classic=config.head_scale is None, **changes)
    settings = device_settings()

    class Clock(keras.callbacks.Callback):
        """The time of each epoch; the first of each image size is left out, it compiles."""

        def __init__(self):
            super().__init__()
            self.seconds = {}

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds[epoch] = time.perf_counter() - self.start
            spent = sum(self.seconds.values())
            if epoch and spent > seconds and variant != "recipe":
                self.model.stop_training = True

    clock = Clock()
    with device_scope(settings):
        network = build(config, plan, data)
        fit(network, data, None, plan, settings, callbacks=(clock,), progress=False)
    firsts = {first for first, _, _ in plan.phases()}
    timed = {e: s for e, s in clock.seconds.items() if e not in firsts}
    if variant != "recipe":
        rate = IMAGES * len(timed) / sum(timed.values())
    else:  # each phase weighs as many epochs as the recipe gives it
        total = 0.0
        for first, end, _ in plan.phases():
            seen = [s for e, s in timed.items() if first <= e < end]
            total += (end - first) * float(np.mean(seen))
        rate = IMAGES * plan.epochs / total
    return {"images_per_second": rate, "settings": str(settings)}


def measure(variant: str, model: str, seconds: float) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    command = [sys.executable, __file__, "--child", variant, "--models", model]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def profile(model: str) -> list[tuple[str, float]]:
    """Share of each kind of operation in the time of all operations of some training steps."""
    import common  # noqa: F401  before TensorFlow

    import tensorflow as tf  # isort: skip
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    from common.models.resnet import preset
    from common.training.backend import device_scope, device_settings
    from common.training.batches import ImageBatches
    from common.training.experiment import build
    from common.training.fit import compiled
    from common.training.recipes import recipe

    data = noise(BATCH * 4)
    config = preset(model)
    classic = config.head_scale is None
    plan = recipe("laptop", classic=classic, batch_size=BATCH, sizes=())
    settings = device_settings()
    with device_scope(settings), tempfile.TemporaryDirectory() as folder:
        network = build(config, plan, data)
        training = compiled(network, 10, plan, plan.make_optimizer(100), settings)
        batches = ImageBatches(data, BATCH, seed=0)
        training.fit(batches, verbose=0, shuffle=False)
        with tf.profiler.experimental.Profile(folder):
            training.fit(batches, verbose=0, shuffle=False)
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    totals: dict[str, float] = {}
    for plane in space.planes:
        if not plane.name.startswith("/host:CPU"):
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # Operations are traced as "path/of/name:Type".
                kind = name.rsplit(":", 1)[-1]
                if ":" in name and kind.isidentifier() and kind[0] in "_ABCDEFGHIJKLMNOPQRSTUVWXYZ":
                    totals[kind] = totals.get(kind, 0.0) + event.duration_ps
    everything = sum(totals.values())
    shares = [(kind, value / everything) for kind, value in totals.items()]
    return sorted(shares, key=lambda item: -item[1])[:10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["fast", "resnet20"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.models[0], arguments.seconds)))
        return
    for model in arguments.models:
        variants = ["plain", "ours", "bare"] + (["recipe"] if model.startswith("fast") else [])
        rates = {variant: [] for variant in variants}
        for _ in range(arguments.rounds):
            for variant in variants:
                result = measure(variant, model, arguments.seconds)
                rates[variant].append(result["images_per_second"])
                print(f"{model:9} {variant:6} {rates[variant][-1]:7.1f} images/s", flush=True)
        median = {variant: float(np.median(values)) for variant, values in rates.items()}
        for variant in variants[1:]:
            print(f"{model}: {variant} / plain = {median[variant] / median['plain']:.2f}")
        cost = 1 - median["ours"] / median["bare"]
        print(f"{model}: augmentation costs {cost:.1%} of a step")
        for kind, share in profile(model):
            print(f"{model}: {share:6.1%} {kind}")


if __name__ == "__main__":
    main()
