"""Kills a training again and again and checks that nothing is lost.

    python benchmarks/kill_and_resume.py --kills 20
    python benchmarks/kill_and_resume.py --kills 1 --laptop

A small training runs in a process of its own and is killed with SIGKILL at random moments, half
of them while a checkpoint is being written; each time it is started again on the same folder. In
the end its history must hold every epoch once, and losses and weights must equal those of a
training that nobody disturbed, within 1e-3 in float32. With `--laptop` it is the course's own
training, network and recipe of profile laptop, on 9,000 built-in images.
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


def plan(kind: str):
    """Network, recipe and number of training images; "small": a tiny residual network."""
    from common.models.resnet import ResNetConfig, preset
    from common.training.recipes import NETWORKS, recipe

    if kind == "laptop":
        return preset(NETWORKS["laptop"]), recipe("laptop"), 9000
    small = ResNetConfig(blocks=(1, 1), widths=(8, 16))
    return small, recipe("smoke", epochs=40, batch_size=64), 512


def train(kind: str, folder: Path) -> None:
    """The training that is killed, on built-in images."""
    from common.data import load_images
    from common.training.backend import device_scope, device_settings
    from common.training.experiment import build
    from common.training.fit import fit

    settings = device_settings(precision="float32")
    config, recipe, count = plan(kind)
    images = load_images("synthetic", "train", limit=count)
    validation = load_images("synthetic", "test", limit=count // 4)
    with device_scope(settings):
        network = build(config, recipe, images)
        fit(network, images, validation, recipe, settings, folder=folder, progress=False,
            tensorboard=False)  # fmt: skip
    np.savez(folder / "weights.npz", *network.get_weights())


def start(kind: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, "--child", kind, str(folder)])


def writing(folder: Path) -> bool:
    """Whether a checkpoint is being written right now."""
    return any(folder.glob(".writing-*"))


def kill_once(kind: str, folder: Path, during_write: bool, rng: random.Random) -> str:
    """Starts the training and kills it; says when, or "finished" if it ended first."""
    process = start(kind, folder)
    began, seen = time.monotonic(), epochs(folder)
    while epochs(folder) == seen and process.poll() is None:  # goes on for at least one epoch
        time.sleep(0.002)
    wait = rng.uniform(0, 90 if kind == "laptop" else 1.5)
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
    parser.add_argument("--laptop", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        train(arguments.child[0], Path(arguments.child[1]))
        return 0
    kind = "laptop" if arguments.laptop else "small"

    rng = random.Random(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    undisturbed = root / "undisturbed"
    undisturbed.mkdir()
    if start(kind, undisturbed).wait():
        return 1
    kills, runs = 0, 0
    failures = []
    while kills < arguments.kills:
        folder = root / f"killed-{runs}"
        folder.mkdir()
        runs += 1
        while kills < arguments.kills:
            moment = kill_once(kind, folder, during_write=kills % 2 == 1, rng=rng)
            if moment == "finished":
                break
            kills += 1
            print(f"kill {kills} (run {runs}): {moment}", flush=True)
        if start(kind, folder).wait():
            return 1
        failures += compare(undisturbed, folder, plan(kind)[1].epochs)
    print(json.dumps({"kills": kills, "runs": runs, "failures": failures}))
    return 1 if failures else 0


def compare(expected: Path, folder: Path, n_epochs: int) -> list[str]:
    """What differs between an undisturbed run and one that was killed."""
    failures = []
    ours, theirs = (pd.read_csv(path / "history.csv") for path in (folder, expected))
    if ours["epoch"].tolist() != list(range(1, n_epochs + 1)):
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
