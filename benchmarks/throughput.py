"""Images per second: our training step against plain Keras `fit`, side by side in one run.

    python benchmarks/throughput.py [--models fast resnet20] [--rounds 8]
    python benchmarks/throughput.py --phase phase2_histopathology --models fast_small

Plain: the same network, `model.compile(optimizer, loss)` and `model.fit(x, y)` with Keras's
defaults, no augmentation, in a process in which nothing of the course is set. Ours: what `fit` of
the course runs, with device settings, augmentation, batch transforms and metrics, at the images'
full size (`ours`) and with the recipe's progressive sizes, each in proportion to its epochs
(`recipe`).

An epoch is timed from its begin to the end of its last step: with few images, what Keras does
after that (see `ImageBatches.for_fit`) would weigh more than it does in a real training.

Each variant has a process of its own and waits for its turn, a few seconds long: the speed of a
shared machine drifts, and so they meet the same weather. The ratios are medians over the rounds.
Also printed: the share of a step that fetching the batch, its transforms and the augmentation cost
(timed alone, one after the other, though in training they overlap with the network), and which
operations fill the step.
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
IMAGES = BATCH * 4
# Side of the images and number of classes.
SHAPES = {"phase1_cifar": (32, 10), "phase2_histopathology": (50, 2)}


def noise(phase: str, n: int = IMAGES):
    """Random images with random labels: speed does not depend on what they show."""
    from common.data.images import ImageData

    rng = np.random.default_rng(0)
    side, count = SHAPES[phase]
    images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    labels = rng.integers(0, count, n).astype("int32")
    classes = tuple(str(i) for i in range(count))
    return ImageData(images=images, labels=labels, classes=classes, name="noise", split="train")


# What runs in the process of a variant ---------------------------------------------------------


def child(variant: str, model: str, phase: str) -> None:
    """Trains for an epoch at each line of standard input; answers with images per second."""
    if variant == "plain":
        import tensorflow  # noqa: F401  before `common`, which sets TensorFlow's environment
    else:
        import common  # noqa: F401  before TensorFlow
    import keras

    from common.models.resnet import preset, resnet
    from common.training.recipes import recipe

    if variant == "plain":
        data = noise(phase)
        network = resnet(preset(model), len(data.classes))
        network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

        def epoch():
            timer = steps_timer()
            network.fit(data.images, data.labels, batch_size=BATCH, verbose=0, callbacks=[timer])
            return timer.seconds

        parts = [(1.0, epoch)]
    else:
        whole = ((1.0, SHAPES[phase][0]),)
        sizes = recipe("laptop", phase=phase).sizes if variant == "recipe" else whole
        parts = [(share, Ours(model, phase, size)) for share, size in sizes]
    for _, epoch in parts:
        epoch()  # compiles
    answer({"ready": True})
    for line in sys.stdin:
        if line.strip() == "input":
            answer({"seconds": parts[0][1].input_seconds()})
        elif line.strip() == "profile":
            answer({"shares": parts[0][1].profile()})
        else:
            seconds = sum(share * epoch() for share, epoch in parts)
            answer({"images_per_second": IMAGES / seconds})


def answer(values: dict) -> None:
    print(json.dumps(values), flush=True)


def steps_timer():
    import keras

    class StepsTimer(keras.callbacks.Callback):
        """`seconds` from the begin of an epoch to the end of its last step."""

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            if self.params.get("steps") in (None, batch + 1):
                float(logs["loss"])  # waits for a device that computes meanwhile
            self.seconds = time.perf_counter() - self.start

    return StepsTimer()


def timed_epoch(model, batches) -> float:
    """Seconds of the steps of an epoch."""
    timer = steps_timer()
    model.fit(batches.for_fit(), shuffle=False, verbose=0, callbacks=[timer])
    return timer.seconds


class Ours:
    """The course's training of a network, an epoch per call; it gives the seconds of its steps.

    Args:
        model: One of the presets.
        phase: Decides the images' shape and the recipe, that of profile laptop.
        size: Side in pixels that the images are shrunk to.
        batch: Images per step.
        steps: Of an epoch.
        precision: As of `device_settings`; `None` for the device's.
        **changes: Of the recipe.
    """

    def __init__(
        self,
        model: str,
        phase: str,
        size: int,
        batch: int = BATCH,
        steps: int = IMAGES // BATCH,
        precision: str | None = None,
        **changes,
    ):
        from common.models.resnet import preset
        from common.training.backend import device_scope, device_settings
        from common.training.batches import ImageBatches
        from common.training.classification import Classification
        from common.training.fit import compiled
        from common.training.recipes import recipe

        self.images = batch * steps
        self.data = noise(phase, self.images)
        config = preset(model)
        classic = config.head_scale is None
        changes = {"batch_size": batch, "sizes": ((1.0, size),), **changes}
        self.recipe = recipe("laptop", classic=classic, phase=phase, **changes)
        self.settings = settings = device_settings(precision)
        with device_scope(settings):
            self.network = Classification(config, self.data).build(self.recipe)
            optimizer = self.recipe.make_optimizer(10_000)
            self.model = compiled(
                self.network, len(self.data.classes), self.recipe, optimizer, settings
            )
        self.batches = ImageBatches(self.data, batch, seed=0)

    def __call__(self) -> float:
        return timed_epoch(self.model, self.batches)

    def input_seconds(self) -> float:
        """Seconds per image to fetch batches and to transform, scale and augment them."""
        import keras
        import tensorflow as tf

        from common.training.batches import BatchTransformed

        first = next(layer for layer in self.network.layers if layer.weights)
        front = keras.Model(self.network.inputs, first.input)
        model = BatchTransformed(
            front, len(self.data.classes), transforms=self.recipe.batch_transforms()
        )
        step = tf.function(lambda inputs: model(inputs, training=True))
        step(self.batches[0][0])
        start = time.perf_counter()
        for i in range(len(self.batches)):
            step(self.batches[i][0])["logits"].numpy()
        return (time.perf_counter() - start) / self.images

    def profile(self) -> dict[str, float]:
        """Share of each kind of operation in the time of all, the ten largest."""
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                self()
            space = xplane_pb2.XSpace()
            space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
        totals: dict[str, float] = {}
        for plane in space.planes:
            if not plane.name.startswith("/host:CPU"):
                continue
            for line in plane.lines:
                for event in line.events:
                    # Operations are traced as "path/of/name:Type", the executor's work as "A::B".
                    name = plane.event_metadata[event.metadata_id].name
                    path, _, kind = name.rpartition(":")
                    if path and not path.endswith(":") and kind.lstrip("_")[:1].isupper():
                        totals[kind] = totals.get(kind, 0.0) + event.duration_ps
        largest = sorted(totals, key=totals.get, reverse=True)[:10]
        return {kind: totals[kind] / sum(totals.values()) for kind in largest}


# What runs in the process that compares --------------------------------------------------------


class Variant:
    """A process that tells when it is ready, and then answers each line that it is asked.

    Args:
        command: What it runs; it answers by lines of JSON, see `answer`.
        environment: Variables besides those of this process.

    Attributes:
        ready: What it told of itself.
    """

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        inherited = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
        self.process = subprocess.Popen(
            command,
            env={**inherited, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self.read()  # one after the other: compiling would disturb

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A variant failed; its error stands above.")
        return json.loads(line)

    def ask(self, what: str) -> dict:
        print(what, file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(model: str, phase: str, rounds: int) -> None:
    """Prints the rates of all variants in each round, and what follows from them."""
    names = ["plain", "ours"] + (["recipe"] if model.startswith("fast") else [])
    script = [sys.executable, __file__, "--models", model, "--phase", phase]
    variants = {name: Variant([*script, "--child", name]) for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    shares = []
    for i in range(rounds):
        for name, variant in variants.items():
            rates[name].append(variant.ask("epoch")["images_per_second"])
        shares.append(variants["ours"].ask("input")["seconds"] * rates["ours"][-1])
        shown = "  ".join(f"{name} {rates[name][-1]:.0f}" for name in names)
        print(f"{model}, round {i + 1}, images/s: {shown}", flush=True)
    for name in names:
        print(f"{model}: {name:6} {np.median(rates[name]):6.0f} images/s")
    for name in names[1:]:
        ratios = np.divide(rates[name], rates["plain"])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{model}: {name} / plain = {middle:.2f} (quartiles {low:.2f} to {high:.2f})")
    print(f"{model}: input and augmentation cost {np.median(shares):.1%} of a step")
    for kind, share in variants["ours"].ask("profile")["shares"].items():
        print(f"{model}: {share:6.1%} {kind}")
    for variant in variants.values():
        variant.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase", choices=SHAPES, default="phase1_cifar")
    parser.add_argument("--models", nargs="+", default=["fast", "resnet20"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.models[0], arguments.phase)
        return
    for model in arguments.models:
        compare(model, arguments.phase, arguments.rounds)


if __name__ == "__main__":
    main()
