"""Time and memory to read or draw a data set, and how hard the built-in ones are.

    python benchmarks/images.py [--data DIR]
    python benchmarks/images.py --phase phase2_histopathology

Each line is a process of its own. Phase 1: drawing `synthetic` (20,000 training images); with
`--data` (a tree `train/<class>/*`, `test/<class>/*`) reading it for the first time, without and
then with its cache; then, on all of `synthetic`, the test accuracy of logistic regression on
standardised pixels and of the course's small network with the recipe of profile laptop in five
epochs.

Phase 2: drawing the slides of 40 patients; the F1 of logistic regression on histograms of colour,
and that of the network with the recipe of profile laptop; each on patients that it has not seen,
and on patches dealt at random. Thresholds are chosen on validation patches of the same split. (How
fast real patches are read: `benchmarks/histopathology.py`.)
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
    from common.training.classification import Classification
    from common.training.experiment import train as train_network
    from common.training.recipes import recipe

    train, _, test = load_splits("synthetic", seed=0, validation=0)
    learns = Classification(preset("fast_small"), train)
    trained = train_network(learns, recipe("laptop", epochs=5), device_settings())
    score = evaluate(trained.network, test)["accuracy"]
    return f"fast_small, five epochs: {score:.1%} (n = {len(test)})"


def draw_slides(arguments):
    from common.data import load_patches

    data = load_patches("synthetic")
    return f"{len(data)} patches of {len(set(data.groups))} patients drawn"


def colour(arguments):
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from common.data import load_patches
    from common.data.splits import make_splits
    from common.evaluation.thresholds import best_threshold

    def histograms(data):
        levels = np.arange(3) * 16 + (data.images >> 4).reshape(len(data), -1, 3)
        return np.stack([np.bincount(patch.ravel(), minlength=48) for patch in levels])

    splits = make_splits(load_patches("synthetic"), arguments.split, seed=0)
    train, held, test = splits.train, splits.validation, splits.test
    best = 0.0
    for strength in (1.0, 1e-2, 1e-4):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        model.fit(histograms(train), train.labels)
        p_held, p = (model.predict_proba(histograms(part))[:, 1] for part in (held, test))
        called = p >= best_threshold(held.labels, p_held)
        best = max(best, f1_score(test.labels, called))
    return f"colour alone, split by {arguments.split}, the best of three: F1 {best:.1%}"


def tissue_network(arguments):
    from common.data import load_patches
    from common.data.splits import make_splits
    from common.evaluation.patches import score_network
    from common.models.resnet import preset, with_pixel_statistics
    from common.training.backend import device_settings
    from common.training.classification import Classification
    from common.training.experiment import train as train_network
    from common.training.recipes import recipe

    splits = make_splits(load_patches("synthetic"), arguments.split, seed=0)
    config = with_pixel_statistics(preset("fast_small"), splits.train.images)
    plan = recipe("laptop", phase="phase2_histopathology")
    trained = train_network(Classification(config, splits.train), plan, device_settings())
    f1 = score_network(trained.network, splits.validation, splits.test).table.loc["f1", "value"]
    n = len(splits.test)
    return f"fast_small, split by {arguments.split}: F1 {f1:.1%} (n = {n})"


STEPS = {
    "draw": draw,
    "read": read,
    "linear": linear,
    "network": network,
    "draw_slides": draw_slides,
    "colour": colour,
    "tissue_network": tissue_network,
}


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


def measure(step: str, *options: str) -> None:
    command = [sys.executable, __file__, "--step", step, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = peak_memory(process)
    output = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"{step} failed; its error stands above.")
    print(f"{output[-1]}, peak memory {peak / 1e6:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder train/<class>/*, test/<class>/*")
    parser.add_argument(
        "--phase", choices=["phase1_cifar", "phase2_histopathology"], default="phase1_cifar"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--split", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        import common.data  # noqa: F401  not counted below: every program imports it once

        start = time.perf_counter()
        result = STEPS[arguments.step](arguments)
        print(f"{result} in {time.perf_counter() - start:.1f} s")
        return
    if arguments.phase == "phase2_histopathology":
        measure("draw_slides")
        for step in ("colour", "tissue_network"):
            for split in ("patients", "random"):
                measure(step, "--split", split)
        return
    measure("draw")
    if arguments.data:
        with tempfile.TemporaryDirectory() as fresh:  # where no cache lies yet
            for split in ("train", "test"):
                (Path(fresh) / split).symlink_to(Path(arguments.data).resolve() / split)
            measure("read", "--data", fresh)
            measure("read", "--data", fresh)
    measure("linear")
    measure("network")


if __name__ == "__main__":
    main()
