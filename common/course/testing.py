"""All tests, as continuous integration runs them: `python -m common.course test`.

Only the standard library is imported; each step is a process in the environment `.venv`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common.course.setup import ROOT, TEST_EXTRAS, SetupError, set_up

# Results of the tests' lessons: beside those of `run`, never among them.
OUTPUTS = ROOT / "outputs" / "checks"
# For the lessons: nothing is downloaded.
VARIABLES = {
    "COURSE_DATASET": "synthetic",
    "COURSE_PROFILE": "smoke",
    "COURSE_OUTPUTS": str(OUTPUTS),
}
WORKERS = 2  # processes side by side; each imports the backend once

STEPS = {
    "lint": "ruff, on code and notebooks",
    "unit": "unit tests on TensorFlow",
    "unit-jax": "unit tests on JAX, TensorFlow made unimportable",
    "chain": "the lessons of phase 1 by `run` in profile smoke, two side by side",
    "nbval": "every cell of every notebook; checked ones must give what is committed",
}
# Tests of what no backend computes; the first step has them, and one that imports every module
# without TensorFlow.
_OF_NO_BACKEND = ("course", "data", "fuzz", "notebooks", "plots")
# Tests compile the same small operations over and over.
_JAX_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(OUTPUTS / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_PHASES = "|".join(path.name for path in ROOT.glob("phase*_*"))


def _commands(step: str) -> list[tuple[list[str], dict[str, str]]]:
    """What a step runs: modules of Python with their arguments, and variables."""
    tests = ["pytest", "tests", "-q", "-n", str(WORKERS)]
    if step == "lint":
        return [(["ruff", "check", "."], {}), (["ruff", "format", "--check", "."], {})]
    if step == "unit":
        return [(tests, {"KERAS_BACKEND": "tensorflow"})]
    if step == "unit-jax":
        # For the tests' own processes, too.
        without = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT / "tests" / "no_tensorflow")}
        without |= _JAX_CACHE
        return [([*tests, *(f"--ignore=tests/{name}" for name in _OF_NO_BACKEND)], without)]
    step, _, phase = step.partition("-phase")
    phases = sorted(ROOT.glob(f"phase{phase}*"))
    if step == "chain":
        # The first phase shows that `run` works; every cell of every lesson runs in nbval.
        return [(["common.course", "run", phases[0].name], VARIABLES)]
    # A notebook a process. Of two that want the same network, the second waits for it. Those that
    # train come first: else the last one would run alone for minutes.
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]
    options += ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]
    found = [path for phase in phases[::-1] for path in sorted(phase.glob("**/0*.ipynb"))]
    found.sort(key=lambda path: ("training" not in path.name, path.parent.name == "solutions"))
    return [(["pytest", "-q", *options, *map(str, found)], VARIABLES)]


def run_step(step: str, python: Path) -> int:
    """Runs one of `STEPS`; returns 0, or the first exit code of its processes that is none."""
    if step == "chain":
        shutil.rmtree(OUTPUTS, ignore_errors=True)

    def call(command: tuple[list[str], dict[str, str]]) -> int:
        module, variables = command
        # Compiled modules are kept: else each notebook compiles TensorFlow anew, 15 s a time.
        kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # The cores divided among the processes, which would wait for each other.
        kept.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
        return subprocess.run([python, "-m", *module], cwd=ROOT, env=kept | variables).returncode

    return next(filter(None, map(call, _commands(step))), 0)


def main(arguments: list[str]) -> int:
    """The command `test`; returns its exit code."""
    steps = "; ".join(f"{name}: {what}" for name, what in STEPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m common.course test",
        description=f"Run all tests in the environment .venv, some 40 minutes. {steps}.",
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"Default: {', '.join(STEPS)}")
    options = parser.parse_args(arguments)
    one_phase = rf"(chain|nbval)-({_PHASES})"
    if unknown := [s for s in options.steps if s not in STEPS and not re.fullmatch(one_phase, s)]:
        parser.error(f"there is no step {unknown[0]!r}. Choose of: {', '.join(STEPS)}")
    try:
        python = set_up(TEST_EXTRAS)
        for step in options.steps or STEPS:
            print(f"== {step}: {STEPS[step.partition('-phase')[0]]}", flush=True)
            start = time.monotonic()
            if code := run_step(step, python):
                print(f"FAILED: {step}. Run it alone: make {step}", file=sys.stderr)
                return code
            print(f"== {step}: passed in {time.monotonic() - start:.0f} s", flush=True)
    except (SetupError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("All tests passed." if not options.steps else "Passed.")
    return 0
