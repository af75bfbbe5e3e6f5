"""Wrong input is told before anything heavy is imported, or a notebook is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import write_json

ROOT = Path(__file__).resolve().parents[2]

# In one process, since each takes half a second to start.
CALL_ALL = """\
import json, sys
from typer.testing import CliRunner
from common.course.cli import app

heavy = {"tensorflow", "keras", "jax", "pandas", "sklearn", "papermill", "nbformat"}
told = []
for arguments in json.load(sys.stdin):
    result = CliRunner().invoke(app, arguments)
    error = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    told.append([result.exit_code, result.stderr + error, sorted(heavy & {*sys.modules})])
print(json.dumps(told))
"""

CAPTIONS = "image,caption\na.jpg,a dog\nb.jpg,a cat\nc.jpg,a cow\n"

TOLD = {
    "rnu phase1": "Did you mean 'run'?",
    "run phase9": "There is no phase 'phase9'. Did you mean 'phase",
    "run phase1 --lesson trainin": "There is no lesson 'trainin'. Did you mean '03_training'?",
    "run --profile smok": "Did you mean 'smoke'?",
    "run --dataset cifar10": "Name the phase, as in: run phase1 --dataset cifar10",
    "run phase1 --dataset cifar": "Did you mean 'cifar10'?",
    "run phase1 --param epochs 20": "'epochs' is not of the form NAME=VALUE",
    "run phase1 --dataset ./petz": "Did you mean './pets'?",
    "run phase1 --dataset slides": "slides looks like data for phase2_histopathology, not for",
    "run phase1 --dataset folder:nowhere": "There is no folder 'nowhere'",
    "run phase3 --dataset /nonexistent": "There is no folder '/nonexistent'. Wanted: photos of",
    "run phase3 --dataset pets": "pets has no captions: no metadata.jsonl, metadata.csv, captions",
    "run phase3 --dataset photos": "photos/captions.txt: 1 of 3 names are no image files beside",
    "run phase1 --param epoch=3": "has no parameter 'epoch'. Did you mean 'epochs'?",
    "run phase1 --param epochs=three": "takes a whole number here",
    "run phase1 --param validation=few": "takes a number here",
    "run phase1 --param model=resnet21": "Did you mean 'resnet20'?",
    "run phase2 --param split=patient": "Did you mean 'patients'?",
    "run phase3 --param decoder=lstn": "Did you mean 'lstm'?",
    "run phase3 --param reward=mixx": "Did you mean 'mix'?",
    "run phase3 --lesson reward --param from_run=lsmt": "Did you mean 'lstm/a'?",
    "run phase1 --lesson 04 --param run_name=wied": "Did you mean 'wide'?",
    "run phase1 --lesson 04 --param run_name=lstm/a": "is one of phase3_captioning, not of phase1",
    "run phase1 --param run_name=a:b": "cannot be a folder's name",
    "run --seed=-1": "a seed is a whole number",
    "sweep phase9 --grid stages=1": "There is no phase 'phase9'",
    "sweep phase1 --grid stages=2,three": "takes a whole number here",
    "sweep phase1 --grid stages=2 model=resnet20,resnet21": "Did you mean 'resnet20'?",
    "sweep phase1 --grid stages=2 --dataset cifar": "Did you mean 'cifar10'?",
    "report nowhere": "There is no file or folder nowhere.",
    "report --compare wide wied": "Did you mean 'wide'?",
    "report --where profile smoke": "'profile' is not of the form NAME=VALUE",
    "report --where dataset": "is not of the form NAME=VALUE",
    "evaluate phase1 --data nowhere": "There is no file or folder nowhere.",
    "evaluate phase1 --data pets --run wide": "Missing: wolf; unknown: dog.",
    "evaluate phase1 --data pets": "--run names a network of yours.",
    "evaluate phase2 --data .": "There is nothing to evaluate for 'phase2'",
    "evaluate phase1 --data . --run wied": "Did you mean 'wide'?",
    "evaluate phase1 --data . --run lstm/a": "is one of phase3_captioning, not of phase1_cifar",
    "evaluate phase1 --data . --batch-size 0": "--batch-size",
    "predict phase2 --data nowhere --output t.parquet": "There is no file or folder nowhere.",
    "predict phase2 --data . --output t.parquet --run wied": "Did you mean 'wide'?",
    "caption ./petz": "Did you mean 'pets'?",
    "caption nowhere.jpg": "There is no file or folder nowhere.jpg.",
    "caption . --run wied": "Did you mean 'wide'?",
    "release phase1 --run wied": "Did you mean 'wide'?",
    "release phase7 --run wide": "There is no phase 'phase7'. Did you mean 'phase",
    "refresh phase1 --dataset flickr8k": "'flickr8k' is a data set of phase3_captioning",
    "refresh phase1 --lesson 9": "There is no lesson '9'",
}
# Told by the readers of the data, or of tables of runs: they take pandas. Last, since it stays.
READ = {
    "evaluate phase1 --data outputs": "test is not a folder",
    "run phase1 --dataset outputs": "train is not a folder",
    "run phase2 --dataset outputs": "outputs: not the layout <patient>/<0|1>/",
    "report --where phase=phase1": "Did you mean 'phase1_cifar'?",
}
TOLD |= READ


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Exit code and message of each command."""
    folder = tmp_path_factory.mktemp("at_once")
    for run, phase in (("wide", "phase1_cifar"), ("lstm/a", "phase3_captioning")):
        record = {"run_name": run, "phase": phase, "classes": ["cat", "wolf"]}
        write_json(folder / "outputs" / "runs" / run / "record.json", record)
    for name in ("cat", "dog"):
        write_json(folder / "pets" / "test" / name / "0.json", {})
    write_json(folder / "slides" / "8863" / "0" / "8863_idx5_x1_y1_class0.png", {})
    for name, text in (("a.jpg", ""), ("b.jpg", ""), ("captions.txt", CAPTIONS)):
        (folder / "photos").mkdir(exist_ok=True)
        (folder / "photos" / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CALL_ALL],
        input=json.dumps([command.split() for command in TOLD]),
        env=os.environ | {"COURSE_OUTPUTS": str(folder / "outputs"), "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(TOLD, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", TOLD)
def test_wrong_input_is_told_at_once(told, command):
    code, message, heavy = told[command]
    assert TOLD[command] in message
    assert code == 2
    assert [name for name in heavy if name != "pandas" or command not in READ] == []
