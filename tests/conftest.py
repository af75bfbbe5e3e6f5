"""What all tests share: their own folder for outputs, and helpers imported by plain name."""

import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest


def without_gradients(compare):
    """The comparison, which takes tensors with a gradient, too."""

    def plain(x):
        return x.detach() if hasattr(x, "detach") else x

    @functools.wraps(compare)
    def compare_plain(*arrays, **options):
        return compare(*map(plain, arrays), **options)

    return compare_plain


# Whatever ~/.keras/keras.json says.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Lessons that name no data set download nothing, whatever the user's own lessons take.
os.environ["COURSE_DATASET"] = "synthetic"
os.environ.pop("COURSE_PROFILE", None)
# On a CPU, XLA takes seconds to optimise each random initialiser: tests need them once. (With
# TensorFlow, too: some tests start processes with JAX.)
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

if os.environ["KERAS_BACKEND"] == "torch":
    # NumPy takes no tensor of PyTorch that has a gradient. Tests may compare them all the same.
    for name in ("assert_allclose", "assert_array_equal", "assert_array_less"):
        setattr(np.testing, name, without_gradients(getattr(np.testing, name)))

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
