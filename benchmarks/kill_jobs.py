"""What `kills.py` kills: small jobs of all kinds, and their inputs, drawn by code.

    python benchmarks/kill_jobs.py do JOB VARIANT NUMBER
    python benchmarks/kill_jobs.py write INPUT FOLDER

Each job runs in a process of its own, in the working folder, its outputs below `COURSE_OUTPUTS`.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# --- what is done ---


def train_images(ready, phase: str, train, validation, **changes) -> None:
    from common.models.resnet import ResNetConfig
    from common.training.backend import device_settings
    from common.training.classification import Classification
    from common.training.experiment import run_config
    from common.training.experiment import train as train_network
    from common.training.recipes import recipe
    from common.training.runs import Run

    settings = device_settings(precision="float32")
    network = ResNetConfig(blocks=(1, 1), widths=(8, 16))
    made = recipe("smoke", phase=phase, batch_size=64, **changes)
    learns = Classification(network, train, validation)
    about = {"phase": phase, "dataset": "synthetic", "profile": "smoke"}
    ready()
    run = Run("tiny", run_config(learns, made, settings, **about))
    trained = train_network(learns, made, settings, run=run, progress=False)
    run.save_record(metrics={"val_accuracy": trained.history["val_accuracy"].iloc[-1]})


def phase1(ready, _):
    from common.data import load_images

    train, test = (load_images("synthetic", split, limit=512) for split in ("train", "test"))
    train_images(ready, "phase1_cifar", train, test.sample(128, 0), epochs=8)


def phase2(ready, _):
    from common.data import load_patches, split_validation

    patches = load_patches("synthetic", patients=3).sample(640, 0)
    train, validation = split_validation(patches, 128, 0)
    changes = {"imbalance": "balanced_batches", "epochs": 6}
    train_images(ready, "phase2_histopathology", train, validation, **changes)


CAPTIONS = {"phase": "phase3_captioning", "dataset": "synthetic", "profile": "smoke"}
LENGTH = 16  # of captions, `<start>` included


def scenes():
    from common.training.caption_task import caption_task
    from common.training.recipes import captioner_settings

    limits = {"train": 192, "dev": 48, "test": 32}
    return caption_task("synthetic", limits=limits, progress=False), captioner_settings("synthetic")


def teach(ready, name: str, epochs: int) -> None:
    from common.evaluation.captioners import bleu_4
    from common.training.experiment import run_config, train
    from common.training.recipes import caption_recipe
    from common.training.runs import Run
    from common.training.teacher_forcing import TeacherForcing

    task, settings = scenes()
    recipe = caption_recipe("smoke", "synthetic", epochs=epochs)
    arguments = {"width": 32, "max_length": LENGTH, "units": 48, "dropout": 0.1}
    learns = TeacherForcing("attention_lstm", task, bleu_4, arguments)
    ready()
    run = Run(name, run_config(learns, recipe, settings, **CAPTIONS))
    trained = train(learns, recipe, settings, run=run, progress=False)
    best = trained.history["val_score"].max()
    run.save_record(metrics={"bleu_4": best}, decoding={"beams": 3, "length_penalty": 0.7})


def phase3(ready, _):
    teach(ready, "taught", 8)


def phase3_reward(ready, _):
    from common.evaluation.captioners import dev_reward
    from common.evaluation.rewards import CaptionReward
    from common.training.experiment import run_config, train
    from common.training.recipes import reward_recipe
    from common.training.run_folders import run_folder
    from common.training.runs import Run
    from common.training.self_critical import SelfCritical

    task, settings = scenes()
    recipe = reward_recipe("smoke", "synthetic", epochs=4)
    weights = {"bleu_4": 1.0}
    reward = CaptionReward(weights, task.features["train"].references, task.data["train"])
    learns = SelfCritical(run_folder("base"), task, reward, dev_reward(task, weights, LENGTH - 1))
    ready()
    run = Run("rewarded", run_config(learns, recipe, settings, **CAPTIONS))
    trained = train(learns, recipe, settings, run=run, progress=False)
    run.save_record(metrics={"reward": trained.history["val_score"].max()})


def features(ready, _):
    from common.data.captions import CaptionData
    from common.training.features import extract_features
    from common.training.scene_backbone import scene_backbone

    count_calls(CaptionData, "read_image", seconds=0.004)
    folder = Path("photos")
    names = tuple(sorted(path.name for path in folder.glob("*.png")))
    data = CaptionData(names, (("a",),) * len(names), "photos", "train", folder)
    backbone = scene_backbone()
    ready()
    extract_features(data, backbone, batch_size=8, progress=False)


def predict(ready, _):
    import common.training.released  # noqa: F401  (imported before the work begins)
    from common.course.cli import app
    from common.data.histopathology import PatchList

    count_calls(PatchList, "read", lambda patches, start, stop: stop - start)
    ready()
    app(["predict", "phase2", "--data", "slides", "--output", "table.parquet"])


def caption(ready, _):
    import common.training.captioner  # noqa: F401
    from common.course.cli import app
    from common.data import photos

    count_calls(photos, "read_photo", seconds=0.002)
    ready()
    app(["caption", "photos", "--run", "base", "--output", "captions.json"])


def run(ready, variant):
    course(ready, "run", "phase1", "--lesson", ("03", "01", "04")[variant], "--profile", "smoke")


def sweep(ready, variant):
    grid = ["--grid", "blocks=1,2", "--name", ("one", "other")[variant], "--profile", "smoke"]
    course(ready, "sweep", "phase1", *grid)


def course(ready, *arguments: str) -> None:
    """A command in the course of small notebooks."""
    from common.course import lessons, report, runner  # noqa: F401
    from common.course.cli import app

    lessons.repository_root = lambda: Path("course").absolute()
    ready()
    app(list(arguments))


def download(ready, _):
    from common.data.archives import extract
    from common.data.download import download

    ready()
    archive = download(os.environ["KILLS_URL"], Path("data/file.zip"), None, progress=False)
    extract(archive, archive.with_suffix(""))


def count_calls(owner, name: str, amount: Callable = lambda *_: 1, seconds: float = 0) -> None:
    """Adds a byte to the file `effort` for each thing that is read, and so much time."""
    function = getattr(owner, name)
    notes = os.open(Path(os.environ["KILLS_NOTES"]) / "effort", os.O_WRONLY | os.O_APPEND)

    def counted(*arguments, **options):
        time.sleep(seconds)
        result = function(*arguments, **options)
        os.write(notes, b"." * amount(*arguments))
        return result

    setattr(owner, name, counted)


# --- inputs ---

LESSON = """\
from common.data import load_images
from common.models.resnet import ResNetConfig
from common.training.backend import device_settings
from common.training.classification import Classification
from common.training.experiment import run_config, train
from common.training.recipes import recipe
from common.training.runs import Run

settings, network = device_settings(precision="float32"), ResNetConfig((blocks,), (8,))
made = recipe(profile, epochs=4, batch_size=64, sizes=())
about = dict(phase="phase1_small", dataset=dataset, profile=profile, seed=seed)
images = [load_images("synthetic", split, limit=512) for split in ("train", "test")]
learns = Classification(network, *images)
run = Run(run_name or f"{NAME}-{seed}", run_config(learns, made, settings, **about))
trained = train(learns, made, settings, seed=seed, run=run, progress=False)
metrics = {"val_accuracy": float(trained.history["val_accuracy"].iloc[-1])}
record = run.save_record(metrics=metrics, epochs=4, parameters=trained.network.count_params())
print(run.name, metrics)"""


def write_course(folder: Path) -> None:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    parameters = 'dataset = "synthetic"\nprofile = None\nseed = 0\nrun_name = None\nblocks = 1'
    lessons = {"01_eda": "import time\ntime.sleep(3)\nprint(dataset)"}
    lessons |= {f"0{i}_{n}": LESSON.replace("{NAME}", n) for i, n in ((3, "training"), (4, "more"))}
    (folder / "phase1_small").mkdir(parents=True)
    for name, source in lessons.items():
        cells = [new_code_cell(parameters), new_code_cell(source)]
        cells[0].metadata["tags"] = ["parameters"]
        notebook = new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / "phase1_small" / f"{name}.ipynb")


def write_photos(folder: Path) -> None:
    import cv2

    from common.data import load_captions

    folder.mkdir(parents=True)
    data = load_captions("synthetic", "train", 600)
    for i, name in enumerate(data.names):
        cv2.imwrite(str(folder / name), data.read_image(i))


def write_slides(folder: Path) -> None:
    import cv2

    from common.data import load_patches
    from common.data.histopathology import patch_name

    data = load_patches("synthetic", patients=6)
    counts = dict.fromkeys(data.groups, 0)
    rows = zip(data.images, data.labels, data.groups, data.positions.tolist(), strict=True)
    for image, label, patient, (x, y) in rows:
        counts[patient] += 1
        if counts[patient] <= 40:
            path = folder / patient / str(label) / patch_name(patient, x, y, label)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)


def write_captioner(folder: Path) -> None:
    """The folder of outputs: features of the scenes, and the run of a captioner."""
    os.environ["COURSE_OUTPUTS"] = str(folder)
    teach(lambda: None, "base", 4)


INPUTS = {
    "photos": write_photos,
    "slides": write_slides,
    "course": write_course,
    "outputs": write_captioner,
}


@dataclass(frozen=True)
class Job:
    """Something that the course does.

    Attributes:
        function: What a child calls.
        inputs: Of `INPUTS`, what has to be there.
        variants: How many different ones there are.
        slack: How much of what was read before a kill may be read again; `None`: is not counted.
        writes: Whether files are written often enough to be killed in the middle.
        kernel: Whether the work is done in a process of its own.
    """

    function: Callable
    inputs: tuple[str, ...] = ()
    variants: int = 1
    slack: int | None = None
    writes: bool = True
    kernel: bool = False


JOBS = {
    "download": Job(download, slack=1000, writes=False),  # kB
    "features": Job(features, ("photos",), slack=40),
    "predict": Job(predict, ("slides",), slack=40),
    "caption": Job(caption, ("photos", "outputs")),
    "training of phase 1": Job(phase1),
    "training of phase 2": Job(phase2),
    "training of phase 3": Job(phase3, ("outputs",)),
    "training by a reward": Job(phase3_reward, ("outputs",)),
    "run": Job(run, ("course",), variants=3, kernel=True),
    "sweep": Job(sweep, ("course",), variants=2, kernel=True),
}


def main(job: str, variant: str, number: str) -> int:
    """Does a job; the work begins, when all is imported, only after a word from the parent."""
    from common.errors import CourseError

    notes = Path(os.environ["KILLS_NOTES"])

    def ready():
        (notes / f"ready-{number}").touch()
        while not (notes / f"go-{number}").exists():
            time.sleep(0.001)

    try:
        JOBS[job].function(ready, int(variant))
    except CourseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if sys.argv[1] == "write":
        INPUTS[sys.argv[2]](Path(sys.argv[3]))
    else:
        sys.exit(main(*sys.argv[2:]))
