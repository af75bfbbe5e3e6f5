"""A course of tiny notebooks, for tests of what runs notebooks."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = """\
dataset = "synthetic"  # which images
profile = None  # "smoke", "laptop" or "full"
seed = 0
run_name = None"""

# What a training lesson leaves, without Keras: the kernel starts in a second.
TRAINING = """\
import json, os, pathlib
from common.files import note_run
folder = pathlib.Path(os.environ["COURSE_OUTPUTS"]) / "runs" / (run_name or f"main-{seed}")
if blocks == 13:
    raise ValueError("thirteen blocks")
folder.mkdir(parents=True, exist_ok=True)
record = dict(run_name=run_name or f"main-{seed}", phase="phase1_tiny", dataset=dataset,
              profile=profile, seed=seed, epochs=2, parameters=100 * stages * blocks, seconds=6.0,
              explore=explore, created=f"2026-01-0{1 + seed}T00:00:00+00:00",
              metrics={"val_accuracy": 0.5 + 0.1 * stages + 0.01 * blocks + 0.001 * seed})
(folder / "config.json").write_text(json.dumps({"stages": stages, "blocks": blocks, "seed": seed}))
(folder / "record.json").write_text(json.dumps(record))
note_run(record["run_name"])"""


# Of a run that has finished.
RECORD = {
    "run_name": "good",
    "phase": "phase1_cifar",
    "dataset": "cifar10",
    "profile": "laptop",
    "seed": 0,
    "epochs": 10,
    "parameters": 1000,
    "seconds": 90.0,
    "metrics": {"test_accuracy": 0.5},
    "created": "2026-01-01",
}


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of a title, a `parameters` cell and code cells."""
    cells = [
        new_markdown_cell("# A lesson"),
        new_code_cell(parameters),
        *map(new_code_cell, sources),
    ]
    cells[1].metadata["tags"] = ["parameters"]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def write_course(root: Path) -> None:
    """Two phases; the second lesson of the first fails in its fourth cell."""
    write_notebook(root / "phase1_tiny" / "01_eda.ipynb", "print(dataset)")
    write_notebook(
        root / "phase1_tiny" / "02_model.ipynb",
        "fine = True",
        "# too much\nraise ValueError('no such layer')",
        "never = True",
    )
    write_notebook(
        root / "phase1_tiny" / "03_training.ipynb",
        TRAINING,
        parameters=PARAMETERS + "\nstages = 3\nblocks = 1\nexplore = True",
    )
    write_notebook(root / "phase2_small" / "01_eda.ipynb", "import sys\nprint(sys.executable)")
