"""Time and memory to read or draw a data set, and how hard the built-in one is.

    python benchmarks/images.py [--data DIR]

Each line is a process of its own: drawing `synthetic` (20,000 training images); with `--data`
(a tree `train/<class>/*`, `test/<class>/*`) reading it for the first time, without and then with
its cache; then, on all of `synthetic`, the test accuracy of logistic regression on standardised
pixels and of the course's small network with the recipe of profile laptop in five epochs.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


def draw(arguments):
    from common.data import load_images

    return f"{len(load_images('synthetic', 'train'))} images drawn"


def read(arguments):
    from common.data import load_images

    count = sum(len(load_images(arguments.data, split)) for split in ("train", "test"))
    return f"{count} images read"


def linear(arguments):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from common.data import load_images

    train, test = (load_images("synthetic", split) for split in ("train", "test"))
    pixels = [data.images.reshape(len(data), -1).astype("float32") for data in (train, test)]
    scores = {}
    for strength in (1e-3, 1e-5):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
        scores[strength] = model.fit(pixels[0], train.labels).score(pixels[1], test.labels)
    best = max(scores.values())
    return f"logistic regression, the better of two: {best:.1%} (n = {len(test)})"


def network(arguments):
    from common.data import load_splits
    from common.evaluation.classification import evaluate
    from common.models.resnet import preset
    from common.training.backend import device_settings
    from common.training.experiment import train_resnet
    from common.training.recipes import recipe

    train, _, test = load_splits("synthetic", seed=0, validation=0)
    trained = train_resnet(
        preset("fast_small"), recipe("laptop", epochs=5), train, None, device_settings()
    )
    score = evaluate(trained.network, test)["accuracy"]
    return f"fast_small, five epochs: {score:.1%} (n = {len(test)})"


STEPS = {"draw": draw, "read": read, "linear": linear, "network": network}


def peak_memory(process: subprocess.Popen) -> int:
    """Largest resident memory in bytes until the process ends, its children's included."""
    peak, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [parent, *parent.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    return peak


def measure(step: str, data: str | None = None) -> None:
    command = [sys.executable, __file__, "--step", step] + (["--data", data] if data else [])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = peak_memory(process)
    output = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"{step} failed; its error stands above.")
    print(f"{output[-1]}, peak memory {peak / 1e6:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder train/<class>/*, test/<class>/*")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        import common.data  # noqa: F401  not counted below: every program imports it once

        start = time.perf_counter()
        result = STEPS[arguments.step](arguments)
        print(f"{result} in {time.perf_counter() - start:.1f} s")
        return
    measure("draw")
    if arguments.data:
        with tempfile.TemporaryDirectory() as fresh:  # where no cache lies yet
            for split in ("train", "test"):
                (Path(fresh) / split).symlink_to(Path(arguments.data).resolve() / split)
            measure("read", fresh)
            measure("read", fresh)
    measure("linear")
    measure("network")


if __name__ == "__main__":
    main()
