"""Every module can be imported on JAX where TensorFlow is not installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

IMPORT_ALL = """\
import importlib, importlib.util, pkgutil, sys
assert importlib.util.find_spec("tensorflow") is None
import common
for module in pkgutil.walk_packages(common.__path__, "common."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import keras
print(keras.backend.backend(), "tensorflow" in sys.modules)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_every_module_without_tensorflow():
    hidden = os.pathsep.join([str(TESTS / "no_tensorflow"), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": hidden},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "jax False\n", done.stderr[-2000:]
