"""What the course does on a GPU, in less than eight minutes: one prepared script.

    python benchmarks/gpu.py [--backend jax] [--minutes 8] [--output DIR]
    python benchmarks/gpu.py --full          profile full of phase 1 in place of laptop
    python benchmarks/gpu.py --miniature     to try the script itself on a processor, in minutes

Five parts, one after the other, each in a process of its own:

- device: the accelerator, its compute capability, what the course chooses on it, versions;
- train: phase 1 with the recipe of the profile, as lesson 3 does: test accuracy with and without
  test-time augmentation, whether that reaches the profile's target, minutes (compiling included),
  images per second over the whole training and in its fastest epoch, peak memory;
- steps: images per second of a training step of phase 1 (fast, fast_large) and of phase 2
  (fast_small at 50 pixels), the whole recipe at full size, on random images;
- captions: the same of captioning (attention_lstm, multi_head) on the built-in scenes, in
  images with their captions;
- lessons: a training lesson of each phase in profile smoke by `python -m common.course run`; its
  run's record has to tell that it was trained on the GPU.

CIFAR-10 is taken where it lies under COURSE_DATA, else the built-in images (then without a
target); `--dataset cifar10` downloads it. Everything goes into DIR/gpu.json as soon as it is known.
What fails, or is stopped because the time is up, is told there, and the other parts still run;
exit status 1 then.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

PARTS = ("device", "train", "steps", "captions", "lessons")
# Test accuracy on CIFAR-10 with test-time augmentation: what each profile is meant for.
TARGETS = {"laptop": 0.943, "full": 0.95}
# Phase, network, side of the images in pixels; images per step as in profile full.
STEPS = (
    ("phase1_cifar", "fast", 32),
    ("phase1_cifar", "fast_large", 32),
    ("phase2_histopathology", "fast_small", 50),
)
BATCH, COUNT, ROUNDS = 1000, 20, 5
DECODERS = ("attention_lstm", "multi_head")
LESSONS = (("phase1", "03"), ("phase2", "03"), ("phase3", "05"))
# What makes the lessons short: one decoder, and none of their comparisons.
PARAMETERS = {
    "phase1": ["explore=False"],
    "phase2": ["explore=False"],
    "phase3": ["decoder=attention_lstm"],
}
MINIATURE = {
    "phase1": ["explore=False", "images=300", "epochs=1"],
    "phase2": ["explore=False", "patients=15", "epochs=1"],
    "phase3": ["decoder=attention_lstm", "epochs=1"],
}


class Report:
    """`gpu.json`: the results of each part, kept as they come."""

    def __init__(self, folder: Path):
        self.path = folder / "gpu.json"

    def read(self) -> dict:
        from common.files import read_json

        return read_json(self.path, dict) if self.path.exists() else {}

    def add(self, part: str, **values) -> None:
        """Keeps and prints what a part has found."""
        from common.files import write_json

        values = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
        found = self.read()
        found[part] = found.get(part, {}) | values
        write_json(self.path, found)
        for name, value in values.items():
            print(f"{part}: {name}: {value}", flush=True)


# The parts -------------------------------------------------------------------------------------


def device(options, report: Report) -> None:
    from common.training.backend import accelerator, device_settings, hardware
    from common.training.runs import git_revision, versions

    settings = device_settings()
    name, capability = accelerator() if settings.device == "gpu" else ("none", None)
    report.add(
        "device",
        accelerator=name,
        compute_capability=capability and ".".join(map(str, capability)),
        settings=str(settings),
        precision=settings.precision,
        versions=versions(),
        git_revision=git_revision(),
        hardware=hardware(),
    )


def train(options, report: Report) -> None:
    from common.data import load_splits
    from common.evaluation.classification import evaluate
    from common.models.resnet import preset
    from common.training.backend import device_settings
    from common.training.classification import Classification
    from common.training.experiment import train as train_network
    from common.training.recipes import NETWORKS, recipe

    few = {"n_train": 600, "n_test": 200} if options.miniature else {}
    profile = "smoke" if options.miniature else "full" if options.full else "laptop"
    plan = recipe(profile, epochs=1 if options.miniature else None)
    dataset = options.dataset or found_dataset()
    learned, held, test = load_splits(dataset, seed=0, validation=None, **few)
    name = f"{NETWORKS[profile]}, profile {profile}, {learned.name}, {len(learned)} images"
    report.add("train", what=f"{name}, {plan.epochs} epochs")
    learns = Classification(preset(NETWORKS[profile]), learned, held)
    trained = train_network(learns, plan, device_settings(), progress=False)
    seen = len(learned) // plan.batch_size * plan.batch_size
    report.add(
        "train",
        minutes=trained.seconds / 60,
        images_per_second=seen * plan.epochs / trained.seconds,
        images_per_second_fastest_epoch=seen / float(trained.history["seconds"].min()),
        **peak_memory(),
    )
    scores = evaluate(trained.network, test)
    report.add("train", test_images=len(test), accuracy=scores["accuracy"])
    report.add("train", accuracy_tta=scores["accuracy_tta"])
    if dataset == "cifar10" and profile in TARGETS:
        target = TARGETS[profile]
        report.add("train", target=target, reached=scores["accuracy_tta"] >= target)


def found_dataset() -> str:
    from common.data.loading import is_there

    return "cifar10" if is_there("cifar10") else "synthetic"


def peak_memory() -> dict[str, float]:
    """What this process has used of the GPU's memory at most; on a processor, of the machine's."""
    import keras

    from common.training.backend import local_devices

    name, mebi = keras.backend.backend(), 2**20
    if local_devices()[0].startswith("cpu"):
        return {"memory_now_mb": psutil.Process().memory_info().rss / mebi}
    if name == "jax":
        import jax

        return {"peak_gpu_mb": jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / mebi}
    if name == "torch":
        import torch

        return {"peak_gpu_mb": torch.cuda.max_memory_allocated() / mebi}
    import tensorflow as tf

    return {"peak_gpu_mb": tf.config.experimental.get_memory_info("GPU:0")["peak"] / mebi}


def steps(options, report: Report) -> None:
    import keras
    from throughput import Ours

    batch, count = (20, 2) if options.miniature else (BATCH, COUNT)
    for phase, model, side in STEPS:
        epoch = Ours(model, phase, side, batch, count)
        rates = measured(epoch, batch * count, options)
        name = f"{phase} {model} at {side} pixels"
        about = {"batch": batch, "images_per_second": rates, **peak_memory()}
        report.add("steps", **{name: about})
        del epoch
        keras.backend.clear_session()


def captions(options, report: Report) -> None:
    from throughput import timed_epoch

    from common.training.backend import device_scope
    from common.training.batches import CaptionBatches
    from common.training.caption_task import caption_task
    from common.training.generation import caption_tokens
    from common.training.recipes import caption_recipe, captioner_settings
    from common.training.teacher_forcing import TeacherForced, TeacherForcing

    limits = {"train": 64, "dev": 2, "test": 2} if options.miniature else {"dev": 2, "test": 2}
    task = caption_task("synthetic", "laptop", limits=limits, progress=False)
    plan, settings = caption_recipe("laptop", "synthetic"), captioner_settings("synthetic")
    train = task.features["train"]
    for name in DECODERS:
        with device_scope(settings):
            decoder = TeacherForcing(name, task).build(plan)
            model = TeacherForced(decoder, plan.label_smoothing)
            optimizer = plan.make_optimizer(10_000)
            model.compile(optimizer, jit_compile=settings.jit_compile)
        tokens = caption_tokens(train.references, task.vocabulary, decoder.max_length)
        batches = CaptionBatches(train.features, tokens, plan.batch_size, 0, drop_remainder=True)
        count = len(batches) * plan.batch_size
        rates = measured(lambda: timed_epoch(model, batches), count, options)  # noqa: B023
        found = {"batch": plan.batch_size, "captions_per_image": tokens.shape[1]}
        report.add("captions", **{name: {**found, "images_per_second": rates, **peak_memory()}})


def measured(epoch, images: int, options) -> dict[str, float]:
    """Images per second of a function that gives its seconds: median, least and most of rounds."""
    for _ in range(1 if options.miniature else 2):
        epoch()  # compiles
    rates = [images / epoch() for _ in range(2 if options.miniature else ROUNDS)]
    found = {"median": np.median(rates), "least": min(rates), "most": max(rates)}
    return {name: round(float(value), 1) for name, value in found.items()}


def lessons(options, report: Report) -> None:
    from common.files import read_json

    folder = options.output / "lessons"
    wrong = []
    for phase, lesson in LESSONS:
        command = [sys.executable, "-m", "common.course", "run", phase, "--lesson", lesson]
        command += ["--profile", "smoke", "--dataset", "synthetic", "--output", str(folder)]
        for parameter in (MINIATURE if options.miniature else PARAMETERS)[phase]:
            command += ["--param", parameter]
        start = time.perf_counter()
        ended = subprocess.run(command, stdout=sys.stderr)
        values = {"ok": ended.returncode == 0, "seconds": round(time.perf_counter() - start, 1)}
        devices = set()
        for kept in (folder / "notebooks").rglob(f"{lesson}_*.json"):
            result = read_json(kept, dict)
            if result["phase"].startswith(phase):
                records = [folder / "runs" / name / "record.json" for name in result["runs"]]
                devices |= {read_json(path, dict)["device"]["device"] for path in records}
        report.add("lessons", **{f"{phase} {lesson}": {**values, "devices": sorted(devices)}})
        wanted = {"cpu"} if options.miniature else {"gpu"}
        if not values["ok"] or devices != wanted:
            wrong.append(f"{phase} {lesson}")
    if wrong:
        raise SystemExit(f"Failed, or not trained on the GPU: {', '.join(wrong)}")


# What runs them --------------------------------------------------------------------------------


def run_part(part: str, options, report: Report, deadline: float) -> str:
    """Runs a part in a process of its own; says how it ended."""
    left = deadline - time.monotonic()
    if left < 5:
        return f"skipped: the {options.minutes:g} minutes are used up"
    command = [sys.executable, __file__, "--part", part, "--output", str(options.output)]
    command += [f"--{name}" for name in ("full", "miniature") if getattr(options, name)]
    command += ["--dataset", options.dataset] if options.dataset else []
    errors = options.output / f"{part}.log"
    with open(errors, "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            code = process.wait(timeout=left)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            process.wait()
            if isinstance(stopped, KeyboardInterrupt):
                raise
            return f"stopped: the {options.minutes:g} minutes are used up"
    if code == 0:
        return "ok"
    last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return f"failed, see {errors}: {last[0] if last else f'exit status {code}'}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dataset", help="of part train")
    parser.add_argument("--full", action="store_true", help="train profile full")
    parser.add_argument("--miniature", action="store_true", help="everything tiny, on a processor")
    parser.add_argument("--output", type=Path, help="by default gpu/ in the course's outputs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The parts' processes, and the lessons' ones, find the course and the backend there.
    root = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    sys.path.insert(0, root)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend
    if options.miniature:
        options.dataset = "synthetic"
        os.environ["CUDA_VISIBLE_DEVICES"], os.environ["JAX_PLATFORMS"] = "", "cpu"
    if options.part:
        import common  # noqa: F401  before TensorFlow

        globals()[options.part](options, Report(options.output))
        return 0

    from common.paths import outputs_dir

    options.output = (options.output or outputs_dir() / "gpu").resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    report, deadline = Report(options.output), time.monotonic() + 60 * options.minutes
    report.path.unlink(missing_ok=True)
    failed = False
    for part in ("device", *(part for part in options.parts if part != "device")):
        start = time.monotonic()
        state = run_part(part, options, report, deadline)
        report.add(part, state=state, seconds=round(time.monotonic() - start, 1))
        failed |= state != "ok"
        if part == "device" and not options.miniature:
            if state != "ok" or report.read()[part]["accelerator"] == "none":
                sys.exit(
                    "No GPU is seen, or the backend cannot use it. Install the course with "
                    '".[gpu]" or ".[jax-gpu]", or try the script with --miniature.'
                )
    print(f"Kept in {report.path}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
