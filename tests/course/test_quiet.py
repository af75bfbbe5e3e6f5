"""Tests of common.course.quiet: noise goes, errors come through, whatever the process does then."""

import os
import subprocess
import sys

import pytest

from common.course import quiet

NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795921106.309343   24413 port.cc:153] oneDNN custom operations are on. You may see
2025-11-01 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
2025-11-01 10:00:00.123456: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find
E0000 00:00:1795921106.309343   24413 cuda_fft.cc:477] Unable to register cuFFT factory
W0000 00:00:1795921106.309343   24413 placer.cc:177] computation placer already registered
"""
WITHOUT_GPU = """\
E0000 00:00:1795921112.106430   24413 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA
W0000 00:00:1795921112.106430   24413 gpu_device.cc:2342] Cannot dlopen some GPU libraries.
"""
REAL = """\
Traceback (most recent call last):
F0000 00:00:1795921112.106430   24413 cpu_feature_guard.cc:37] compiled to use AVX instructions
E0000 00:00:1795921112.106430   24413 gpu_device.cc:1] out of memory
An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed.
"""


@pytest.mark.parametrize("has_gpu", [False, True])
def test_noise_goes_and_errors_stay(has_gpu, capfd, monkeypatch):
    monkeypatch.setattr(quiet, "has_nvidia", lambda: has_gpu)
    os.write(2, b"before\n")
    with quiet.quiet():
        os.write(2, (NOISE + WITHOUT_GPU + REAL + "without an end").encode())
    os.write(2, b"\nafter\n")
    shown = (WITHOUT_GPU if has_gpu else "") + REAL + "without an end"
    assert capfd.readouterr().err == f"before\n{shown}\nafter\n"


def test_an_error_inside_comes_out(capfd):
    with pytest.raises(ValueError, match="one"), quiet.quiet():
        os.write(2, b"I0000 00:00:1795921106.3 1 port.cc:153] noise\n")
        raise ValueError("one")
    assert capfd.readouterr().err == ""


def test_what_a_process_says_last_is_shown_though_it_is_killed():
    script = (
        "import os\nfrom common.course.quiet import quiet\n"
        "with quiet():\n    os.write(2, b'F0000 00:00:1.5 1 a.cc:1] no AVX\\n')\n    os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "no AVX" in done.stderr


def test_a_start_is_quiet():
    script = "from common.course.quiet import load_backend\nprint(load_backend())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "cpu:0" in done.stdout or "gpu:0" in done.stdout
