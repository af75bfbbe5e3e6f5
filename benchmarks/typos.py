"""How long it takes from Enter to the message, for wrong input of all kinds.

    python benchmarks/typos.py
    python benchmarks/typos.py --repeat 5

Each command is started as a user starts it, in a folder of its own with two short runs and two
folders of images, and is to end with exit code 2 within two seconds. The table, in Markdown, has
the exit code, the seconds from start to end and those of processor time (least of the repeats),
and the message's first line. The exit code is 1 if a command ended otherwise or took longer.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 2.0  # seconds
COMMANDS = """\
rnu phase1
run phse1
run phase1 --lesson trainin
run --profile smok
run --dataset cifar10
run phase1 --dataset cifar
run phase1 --dataset folder:pest
run phase1 --dataset folder:slides
run phase3 --dataset /nonexistent
run phase1 --param epoch=3
run phase1 --param epochs=three
run phase1 --param model=resnet21
run phase3 --lesson 06 --param from_run=lstn
run phase1 --output pets/readme.txt
sweep phase1 --grid model=resnet20,resnet21
sweep phase1 --grid stagse=2,3
report --where dataset=cifar
report --where datset=cifar10
report --compare wide lstn
report /nonexistent
evaluate phase1 --data pest
evaluate phase1 --data slides
evaluate phase1 --data pets
evaluate phase1 --data pets --run wied
predict phase1 --data pest
predict phase2 --data slides --output table.parquet --run wied
caption nope.jpg
caption pets --run wied
release phase1 --run wied
refresh phase1 --dataset flickr8k
"""


def make_folder(folder: Path) -> None:
    """Runs and data for commands to miss."""
    for name, phase in (("wide", "phase1_cifar"), ("lstm", "phase3_captioning")):
        run = folder / "outputs" / "runs" / name
        run.mkdir(parents=True)
        record = {"run_name": name, "phase": phase, "dataset": "cifar10", "metrics": {}}
        (run / "record.json").write_text(json.dumps(record))
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (folder / "pets" / name).mkdir(parents=True)
        (folder / "pets" / name / "1.png").write_bytes(b"")
    (folder / "pets" / "readme.txt").write_text("")
    (folder / "slides" / "9001" / "0").mkdir(parents=True)


def call(command: str, folder: Path) -> tuple[int, float, float, str]:
    """Exit code, seconds, seconds of processor time, and the message's first line."""
    root = Path(__file__).resolve().parents[1]
    variables = {"COURSE_OUTPUTS": str(folder / "outputs"), "PYTHONPATH": str(root)}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "common.course", *shlex.split(command)],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    seconds, after = time.perf_counter() - start, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children, in user and in system
    lines = done.stderr.splitlines()
    message = next(
        (line for line in lines if line.startswith("Error: ")), lines[-1] if lines else ""
    )
    return done.returncode, seconds, cpu, message.removeprefix("Error: ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="the least of so many is told")
    repeat = parser.parse_args().repeat
    bad = 0
    print("| command | exit code | seconds | processor seconds | message |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder)
        call("--version", folder)  # compiles
        for command in COMMANDS.splitlines():
            codes, seconds, cpu, messages = zip(
                *(call(command, folder) for _ in range(repeat)), strict=True
            )
            told = messages[0].replace(name, "").replace("|", "\\|")[:100]
            print(
                f"| `{command}` | {codes[0]} | {min(seconds):.1f} | {min(cpu):.1f} | {told} |",
                flush=True,
            )
            expected = 1 if "--output pets" in command else 2  # what cannot be written
            bad += codes[0] != expected or min(cpu) > LIMIT
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
