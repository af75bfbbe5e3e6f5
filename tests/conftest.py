"""What all tests share: their own folder for outputs, and helpers imported by plain name."""

import os
import sys
from pathlib import Path

import pytest

# Whatever ~/.keras/keras.json says.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# On a CPU, XLA takes seconds to optimise each random initialiser: tests need them once. (With
# TensorFlow, too: some tests start processes with JAX.)
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Helpers that stand beside their tests, as tests/training/small.py.
for folder in sorted(Path(__file__).parent.iterdir()):
    if folder.is_dir() and not folder.name.startswith("_"):
        sys.path.append(str(folder))


@pytest.fixture(scope="session", autouse=True)
def own_outputs(tmp_path_factory):
    """Keeps the tests away from the user's `outputs/`."""
    before = os.environ.get("COURSE_OUTPUTS")
    os.environ["COURSE_OUTPUTS"] = str(tmp_path_factory.mktemp("outputs"))
    yield
    if before is None:
        del os.environ["COURSE_OUTPUTS"]
    else:
        os.environ["COURSE_OUTPUTS"] = before
