"""Kills a training again and again and checks that nothing is lost.

    python benchmarks/kill_and_resume.py --kills 20

A small training runs in a process of its own and is killed with SIGKILL at random moments, half
of them while a checkpoint is being written; each time it is started again on the same folder. In
the end its history must hold every epoch once, and losses and weights must equal those of a
training that nobody disturbed, within 1e-3 in float32.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

EPOCHS = 40


def train(folder: Path) -> None:
    """The training that is killed: a tiny residual network on built-in images."""
    import keras

    from common.data import load_images
    from common.models.resnet import ResNetConfig, resnet
    from common.training import recipes
    from common.training.backend import device_scope, device_settings
    from common.training.fit import fit

    keras.utils.set_random_seed(0)
    settings = device_settings(precision="float32")
    recipe = recipes.recipe("smoke", epochs=EPOCHS, batch_size=64)
    train_images = load_images("synthetic", "train", limit=512)
    validation = load_images("synthetic", "test", limit=128)
    with device_scope(settings):
        network = resnet(
            ResNetConfig(blocks=(1, 1), widths=(8, 16)),
            num_classes=10,
            augmentation=recipe.augmentation_layers(0),
        )
        fit(network, train_images, validation, recipe, settings, folder=folder, progress=False,
            tensorboard=False)  # fmt: skip
    np.savez(folder / "weights.npz", *network.get_weights())


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, "--child", str(folder)])


def writing(folder: Path) -> bool:
    """Whether a checkpoint is being written right now."""
    return any(folder.glob(".writing-*"))


def kill_once(folder: Path, during_write: bool, rng: random.Random) -> str:
    """Starts the training and kills it; says when, or "finished" if it ended first."""
    process = start(folder)
    began, seen = time.monotonic(), epochs(folder)
    while epochs(folder) == seen and process.poll() is None:  # goes on for at least one epoch
        time.sleep(0.002)
    wait = rng.uniform(0, 1.5)
    deadline = time.monotonic() + wait
    while process.poll() is None:
        if during_write and writing(folder):
            break
        if not during_write and time.monotonic() > deadline:
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        return "finished"
    process.send_signal(signal.SIGKILL)
    process.wait()
    moment = "while writing" if writing(folder) else "between writes"
    return f"after {time.monotonic() - began:.1f} s, {moment}, {epochs(folder)} epochs recorded"


def epochs(folder: Path) -> int:
    path = folder / "history.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        train(Path(arguments.child))
        return 0

    rng = random.Random(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    undisturbed = root / "undisturbed"
    undisturbed.mkdir()
    if start(undisturbed).wait():
        return 1
    kills, runs = 0, 0
    failures = []
    while kills < arguments.kills:
        folder = root / f"killed-{runs}"
        folder.mkdir()
        runs += 1
        while kills < arguments.kills:
            moment = kill_once(folder, during_write=kills % 2 == 1, rng=rng)
            if moment == "finished":
                break
            kills += 1
            print(f"kill {kills} (run {runs}): {moment}", flush=True)
        if start(folder).wait():
            return 1
        failures += compare(undisturbed, folder)
    print(json.dumps({"kills": kills, "runs": runs, "failures": failures}))
    return 1 if failures else 0


def compare(expected: Path, folder: Path) -> list[str]:
    """What differs between an undisturbed run and one that was killed."""
    failures = []
    ours, theirs = (pd.read_csv(path / "history.csv") for path in (folder, expected))
    if ours["epoch"].tolist() != list(range(1, EPOCHS + 1)):
        failures.append(f"epochs recorded: {ours['epoch'].tolist()}")
    else:
        columns = [name for name in ours if name not in ("epoch", "seconds")]
        gap = float((ours[columns] - theirs[columns]).abs().max().max())
        print(f"largest difference in losses and accuracies: {gap:.2e}", flush=True)
        if gap > 1e-3:
            failures.append(f"history differs by {gap:.2e}")
    with np.load(folder / "weights.npz") as a, np.load(expected / "weights.npz") as b:
        gap = max(float(np.abs(a[name] - b[name]).max()) for name in a.files)
    print(f"largest difference in weights: {gap:.2e}", flush=True)
    if gap > 1e-3:
        failures.append(f"weights differ by {gap:.2e}")
    return failures


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.exit(main())
