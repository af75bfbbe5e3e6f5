"""Imports the backend without the lines that TensorFlow, absl and CUDA write while they start."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Of the log in C++: "I0000 00:00:1759.5 42 port.cc:153] ..." and the older
# "2025-11-01 10:00:00.1: I tensorflow/core/...".
_LINE = r"(?:\d{4}-\d\d-\d\d \S+: )?[%s](?:\d{4} \d\d:\d\d:\S+ +\d+ \S+\.cc:\d+\]| \w+/)"
_NOISE = "|".join(
    (
        "WARNING: All log messages before absl::InitializeLog",
        _LINE % "I",
        _LINE % "IWE" + ".*already (?:been )?registered",  # plugins for GPUs, of the same library
        _LINE % "IWE" + ".*Unable to register cu",
        _LINE % "IWE" + ".*oneDNN supports ",
    )
)
_NOISE_WITHOUT_GPU = "|".join((_NOISE, _LINE % "W", _LINE % "E" + ".*cuInit"))

# Reads to the end of its input, so that what a process says last is shown though it is killed.
_FILTER = """\
import re, sys
noise = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not noise.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def load_backend() -> list[str]:
    """Imports Keras and its backend and starts the devices; real errors come through.

    Returns:
        The names of all devices, as "cpu:0".
    """
    if "keras" in sys.modules:
        from common.training.backend import local_devices

        return local_devices()
    with quiet():
        import keras

        from common.training.backend import local_devices

        devices = local_devices()
        if keras.backend.backend() == "tensorflow":
            # Data of many shapes are compiled many times.
            logging.getLogger("tensorflow").addFilter(
                lambda record: "retracing" not in record.getMessage()
            )
            # What it says once, in the midst of the work, of processors without AVX-512.
            from common.training.backend import compiled_method

            compiled_method(keras.ops.transpose, [])(keras.ops.zeros((2, 3), "int32"))
        return devices


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Passes on what is written to file descriptor 2, but for the noise of a start.

    Where there is an NVIDIA GPU, its warnings and errors are none: they tell why it is not used.
    """
    noise = _NOISE if has_nvidia() else _NOISE_WITHOUT_GPU
    try:
        real = os.dup(2)
        passing = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, noise], stdin=subprocess.PIPE, stderr=real
        )
    except OSError:  # no such descriptor, or no further process: all is shown
        yield
        return
    try:
        _flush()
        os.dup2(passing.stdin.fileno(), 2)
        yield
    finally:
        _flush()
        os.dup2(real, 2)
        os.close(real)
        passing.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child of ours holds the pipe
            passing.wait(timeout=2)


def _flush() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, or closed
        sys.stderr.flush()


def has_nvidia() -> bool:
    """Whether the machine has a GPU of NVIDIA, as far as can be told without a library."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
