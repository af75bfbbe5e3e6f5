"""Kills, doubles and starves what the course does, and checks that nothing is lost by it.

    python benchmarks/kills.py                          60 kills in all
    python benchmarks/kills.py --only predict --kills 6 --seed 1
    python benchmarks/kills.py --quick

The jobs (`kill_jobs.py`: trainings of all phases, features, `predict`, `caption`, `run`, `sweep`,
a download) run in processes of their own. What one leaves when nobody disturbs it is compared with
what it leaves

- `again`: when it is run elsewhere, twice in one place (to know that it can be compared at all);
- `killed`: after SIGKILLs at random moments, half of them while a file is being written; of `run`
  and `sweep` half of them hit the kernel of the notebook;
- `two`: when two processes do it at once; `two, one killed`: when one of them is killed;
- `two others`: when two processes do different things in one outputs folder;
- `full disk`: when a small disk (a tmpfs, which takes root to mount) fills up, half of the times
  in a job that was killed before; then there is space again.

All files must be the same, weights and histories to the last bit, but for times; no temporary file
or process may stay, locks excepted (hidden, empty). What was finished before a kill must not be
done again. A process that fails must say why in words. The end is a table of tries and failures, in
Markdown and as JSON; the exit code is 1 if anything failed. Folders of failed tries are kept.
"""

import argparse
import hashlib
import http.server
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
from kill_jobs import JOBS

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("kill_jobs.py")
QUICK = ("download", "features")
COUNTS = ("tries", "kills", "while writing", "ended equal", "told clearly", "failed")

# --- what is left ---

# In files: when, where and how fast it was made.
TELLING = {"seconds", "created", "hardware", "git_revision", "kept", "versions", "files"}
TEMPORARY = r"(^|/)\.(writing|extracting)-|\.part(\.json)?$|\.parts/|course-kernel|(^|/)tmp[^/]*$"


def snapshot(folder: Path) -> dict[str, object]:
    """All files below a folder as values that can be compared; locks and logs are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "tensorboard" in path.parts or re.search(r"(^|/)course-locks-\w+$", name):
            continue
        if path.is_dir():
            found[f"{name}/"] = "a folder"
        elif path.name.startswith(".writing-"):  # may be cut anywhere
            found[name] = "temporary"
        elif not is_lock(path):
            found[name] = content(path)
    return found


def is_lock(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.parent.name.startswith("course-locks-")
    return hidden and path.name.endswith("lock") and path.stat().st_size == 0


def content(path: Path) -> object:
    """What a file holds, less times."""
    if path.suffix in (".html", ".md"):
        return "a page" if path.stat().st_size else "empty"
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str).drop(columns=[*TELLING], errors="ignore").to_csv()
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv()
    if path.suffix == ".h5":
        return hdf5_digest(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            weights = io.BytesIO(file.read("model.weights.h5"))
            config = file.read("config.json").decode()  # with addresses in memory
            return re.sub(r'"shared_object_id": \d+', "", config), hdf5_digest(weights)
    if path.suffix not in (".json", ".ipynb"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    value = json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".ipynb":
        cells = [(cell["source"], cell.get("outputs", ())) for cell in value["cells"]]
        return [[text, *(o for o in told if o.get("name") != "stderr")] for text, told in cells]
    if path.name == "hashes.json":  # sizes and times before each
        return {name: known[-1] for name, known in value.items()}
    files = value.get("files", {}) if isinstance(value, dict) else {}
    for name, digest in files.items():
        if hashlib.sha256((path.parent / name).read_bytes()).hexdigest() != digest:
            return f"tells of another {name}"
    return timeless(value)


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TELLING}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def hdf5_digest(source) -> str:
    digest = hashlib.sha256()

    def add(name, item):
        if isinstance(item, h5py.Dataset) and name != "course_state":  # has the seconds
            digest.update(f"{name} {item.shape} {item.dtype}".encode() + item[()].tobytes())

    with h5py.File(source) as file:
        file.visititems(add)
    return digest.hexdigest()


def differences(found: dict, wanted: dict, more: bool) -> list[str]:
    """What differs; with `more` there may be other files, too."""
    told = [f"{name} is missing" for name in wanted if name not in found]
    told += [f"{name} is left behind" for name in found if name not in wanted and not more]
    for name in wanted:
        if name in found and found[name] != wanted[name]:
            ours, theirs = str(found[name]), str(wanted[name])
            start = max(0, len(os.path.commonprefix([ours, theirs])) - 100)
            told.append(f"{name}: {ours[start:][:300]!r} instead of {theirs[start:][:300]!r}")
    return told


def finished(work: Path) -> set[tuple]:
    """What must stay as it is, with its times: epochs, and combinations of a sweep."""
    found = set()
    for path in work.rglob("history.csv"):
        found |= {(str(path), i, line) for i, line in enumerate(path.read_text().splitlines())}
    for path in work.glob("outputs/sweeps/*/*.json"):
        if json.loads(path.read_text())["failure"] is None:
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def size_on_disk(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return 4096 * sum(-(-size // 4096) for size in sizes)


def clean_environment() -> dict[str, str]:
    # Modules that are not kept compiled cost 15 s a process.
    dropped = ("COURSE_DATA", "COURSE_DATASET", "COURSE_PROFILE", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}


# --- one try ---


class Wrong(Exception):
    """What a try found."""


class Started:
    """A process that does a job."""

    def __init__(self, process: subprocess.Popen, notes: Path, number: int):
        self.process, self.output = process, notes / f"output-{number}.txt"
        self.ready, self.go = notes / f"ready-{number}", notes / f"go-{number}"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> int:
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        self.end()
        raise Wrong(f"hangs for {seconds:.0f} s: {self.tail()}")

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self) -> str:
        return self.output.read_text(errors="replace")[-3000:]

    def told(self, words: str = "Error: ") -> bool:
        """Whether it failed with a message for users."""
        text = self.output.read_text(errors="replace")
        return self.process.returncode > 0 and words in text and "Traceback (most" not in text


class Try:
    """A folder in which a job is done.

    Args:
        name: Of the job.
        folder: Of the try; has notes about it.
        inputs: Where the inputs of all jobs are.
        url: Of the server.
        seconds: That the job takes undisturbed.
        disk: Where to work, if not in the folder.
        disk_too: Whether temporary files lie on that disk, too.
    """

    def __init__(self, name, folder, inputs, url, seconds=60.0, disk=None, disk_too=False):
        self.name, self.job, self.folder, self.url = name, JOBS[name], folder, url
        self.seconds, self.limit, self.disk = seconds, 120 + 20 * seconds, disk
        self.notes, self.work = folder / "notes", (disk or folder) / "work"
        self.tmp = (disk if disk_too else folder) / "tmp"
        for made in (self.notes, self.work, self.tmp):
            made.mkdir(parents=True)
        self.effort = self.notes / "effort"
        self.effort.touch()
        for wanted in self.job.inputs:
            shutil.copytree(inputs / wanted, self.work / wanted)
        self.processes: list[Started] = []

    def start(self, *variants: int, delay: float = 0) -> list[Started]:
        """Starts processes and, when they have imported all, lets them go one after the other."""
        variables = clean_environment() | {
            "COURSE_OUTPUTS": str(self.work / "outputs"),
            "TMPDIR": str(self.tmp),
            "KILLS_NOTES": str(self.notes),
            "KILLS_URL": f"{self.url}{self.folder}",
        }
        started = []
        for variant in variants:
            number = len(self.processes)
            command = [sys.executable, SCRIPT, "do", self.name, str(variant), str(number)]
            with open(self.notes / f"output-{number}.txt", "wb") as file:
                options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
                process = subprocess.Popen(
                    command, cwd=self.work, env=variables, start_new_session=True, **options
                )
            started.append(Started(process, self.notes, number))
            self.processes.append(started[-1])
        while not all(one.ready.exists() or not one.alive for one in started):
            time.sleep(0.005)
        for one in started:
            time.sleep(delay if one is not started[0] else 0)
            one.go.touch()
        return started

    def finish(self, *started: Started) -> None:
        """Waits for processes, or for one that does the job now; they have to end well."""
        for one in started or self.start(0):
            if code := one.wait(self.limit):
                raise Wrong(f"ended with {code}: {one.tail()}")

    def kill(self, started: Started, rng: random.Random, while_writing: bool) -> str | None:
        """Kills at a random moment; says when, or `None` if the process ended before."""
        began = time.monotonic()
        end = began + rng.uniform(0, 0.9 * self.seconds)
        while started.alive and time.monotonic() < end:
            time.sleep(0.001)
        while started.alive and while_writing and not self.is_writing():
            time.sleep(0.0002)
        when = f"after {time.monotonic() - began:.2f} s"
        if not started.alive:
            return None
        victim = started.process
        if self.job.kernel and rng.random() < 0.5:
            victim = rng.choice(psutil.Process(victim.pid).children(recursive=True) or [victim])
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
        when += ", while writing" if self.is_writing() else ""
        if victim is started.process:
            victim.wait()
            return when
        if started.wait(self.limit) and not started.told("FAILED"):
            raise Wrong(f"without its kernel it ended with: {started.tail()}")
        return f"its kernel {when}"

    def is_writing(self) -> bool:
        for _, folders, files in os.walk(self.work):
            folders[:] = [n for n in folders if n == "outputs" or n not in self.job.inputs]
            if any(name.startswith(".writing-") for name in files):
                return True
        return False

    def check(self, wanted: dict, more: bool = False) -> None:
        """Makes sure that what is left is what has to be, and no process of it."""
        if told := differences(snapshot(self.work), wanted, more):
            raise Wrong("; ".join(told[:8]))
        if more:
            return
        if left := snapshot(self.tmp):
            raise Wrong(f"left in TMPDIR: {', '.join(left)}")
        end = time.monotonic() + 10
        while orphans := self.orphans():
            if time.monotonic() > end:
                raise Wrong(f"processes that do not end: {orphans}")
            time.sleep(0.2)

    def orphans(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("KILLS_NOTES") == str(self.notes):
                    found.append(f"{process.pid} {process.name()} {process.status()}")
        return found


# --- all tries of a job ---


class Attack:
    """All tries of one job.

    Args:
        name: Of the job.
        root: Folder of all that is made.
        url: Of the server.
        seed: Of the moments.
    """

    def __init__(self, name: str, root: Path, url: str, seed: int):
        self.name, self.job, self.root, self.url = name, JOBS[name], root, url
        self.rng = random.Random(f"{name} {seed}")
        self.counts: dict[str, Counter] = {}  # by kind
        self.failures: list[str] = []
        self.wanted: dict[int, dict] = {}  # what is left, by variant
        self.seconds = self.effort = self.size = self.more = 0

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.name}: {text}", flush=True)

    def new(self, label: str, **options) -> Try:
        folder = self.root / re.sub(r"\W+", "-", f"{self.name} {label}")
        return Try(self.name, folder, self.root / "inputs", self.url, self.seconds, **options)

    def attempt(self, kind: str, function, **options) -> bool:
        """Counts a try, and what came of it; the folders of failed ones stay."""
        count = self.counts.setdefault(kind, Counter())
        place = self.new(f"{kind} {count['tries']}", **options)
        count["tries"] += 1
        try:
            told = function(place, count)
        except Wrong as error:
            count["failed"] += 1
            self.failures.append(f"{self.name}, {kind}, {place.folder}: {error}")
            self.say(f"{kind} FAILED: {error}")
            if place.disk:  # which goes
                shutil.copytree(place.work, place.folder / "work")
            return False
        finally:
            for started in place.processes:
                started.end()
        count["told clearly" if told else "ended equal"] += 1
        self.say(f"{kind}: {told or 'ended equal'}")
        shutil.rmtree(place.folder)
        return True

    def undisturbed(self, place: Try, count: Counter) -> None:
        for variant in range(self.job.variants):
            if variant:
                place = self.new(f"variant {variant}")
            before = size_on_disk(place.work)
            [started] = place.start(variant)
            began = time.monotonic()
            place.finish(started)
            self.wanted[variant] = snapshot(place.work)
            place.check(self.wanted[variant])
            if left := [name for name in self.wanted[variant] if re.search(TEMPORARY, name)]:
                raise Wrong(f"left behind: {', '.join(left)}")
            if not variant:
                self.seconds, self.effort = time.monotonic() - began, place.effort.stat().st_size
                self.size = size_on_disk(place.work)
                self.more = self.size - before
        self.say(f"takes {self.seconds:.1f} s and {self.more / 1e6:.2f} MB")

    def again(self, place: Try, count: Counter) -> None:
        for _ in range(2):
            place.finish()
            place.check(self.wanted[0])

    def killed(self, place: Try, count: Counter, kills: int) -> None:
        before, done = set(), 0
        for _ in range(kills):
            [started] = place.start(0)
            if not self.kill(place, started, count):
                place.finish(started)
                break
            done += 1
            self.check_kept(place, before)
            before = finished(place.work)
        place.finish()
        self.check_kept(place, before)
        place.check(self.wanted[0])
        self.check_effort(place, done)

    def kill(self, place: Try, started: Started, count: Counter) -> bool:
        when = place.kill(started, self.rng, self.job.writes and count["kills"] % 2 == 1)
        if when:
            count["kills"] += 1
            count["while writing"] += "while writing" in when
            self.say(f"killed {when}")
        return bool(when)

    def check_kept(self, place: Try, before: set) -> None:
        if lost := before - finished(place.work):
            raise Wrong(f"was finished before a kill and is done again: {sorted(lost, key=str)}")

    def check_effort(self, place: Try, kills: int) -> None:
        found = place.effort.stat().st_size
        if self.job.slack is not None and found > self.effort + kills * self.job.slack:
            raise Wrong(f"{found} were read after {kills} kills, {self.effort} undisturbed")

    def both(self, place: Try, *variants: int) -> list[Started]:
        """Two processes, at once or one a little later."""
        delay = self.rng.choice([0, self.rng.uniform(0, self.seconds / 2)])
        return place.start(*variants, delay=delay)

    def check_ends(self, place: Try, processes: list[Started]) -> str | None:
        """One of two may be refused, in words."""
        refused = [one for one in processes if one.wait(place.limit)]
        for one in refused:
            if len(refused) == len(processes) or not one.told():
                raise Wrong(f"one of two ended with {one.process.returncode}: {one.tail()}")
        return f"one was refused: {refused[0].tail()}" if refused else None

    def two(self, place: Try, count: Counter) -> str | None:
        told = self.check_ends(place, self.both(place, 0, 0))
        place.check(self.wanted[0])
        self.check_effort(place, 0)
        return told

    def two_others(self, place: Try, count: Counter) -> str | None:
        variants = self.rng.sample(range(self.job.variants), 2)
        told = self.check_ends(place, self.both(place, *variants))
        place.check(self.wanted[variants[0]] | self.wanted[variants[1]])
        return told

    def one_of_two_killed(self, place: Try, count: Counter) -> None:
        processes = self.both(place, 0, 0)
        victim = self.rng.choice(processes)
        killed = self.kill(place, victim, count)
        place.finish(*(one for one in processes if not (killed and one is victim)))
        # Who lost but its kernel has told so where the other had its result, maybe after it.
        if not killed or victim.process.returncode == -signal.SIGKILL:
            place.check(self.wanted[0], more=True)
        self.check_effort(place, 1)
        place.finish()
        place.check(self.wanted[0])

    def full_disk(self, place: Try, count: Counter, kill_before: bool) -> str | None:
        if kill_before:
            place.kill(*place.start(0), self.rng, False)
        free = int(self.rng.uniform(0, 1.1) * self.more)
        state = os.statvfs(place.disk)
        filler = place.disk / "filler"
        filler.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - free)))
        [started] = place.start(0)
        code = started.wait(place.limit)
        if code and not started.told("Free some space"):
            raise Wrong(f"with {free:,} bytes free it ended with {code}: {started.tail()}")
        filler.unlink()
        place.finish()
        place.check(self.wanted[0])
        return f"told of {free:,} bytes free, then ended equal" if code else None

    def all(self, kills: int) -> None:
        if not self.attempt("undisturbed", self.undisturbed):
            return
        self.attempt("again", self.again)
        pairs = kills // 3
        for _ in range(2 * kills):  # some end before they are killed
            if left := kills - pairs - self.counts.get("killed", {}).get("kills", 0):
                some = min(left, self.rng.randint(1, 3))
                self.attempt("killed", partial(self.killed, kills=some))
        for _ in range(max(1, pairs // 2)):
            self.attempt("two", self.two)
        for _ in range(max(1, pairs) if self.job.variants > 1 else 0):
            self.attempt("two others", self.two_others)
        for _ in range(2 * pairs):
            if self.counts.get("two, one killed", {}).get("kills", 0) < pairs:
                self.attempt("two, one killed", self.one_of_two_killed)
        for i in range(max(2, pairs)):
            with small_disk(self.root, 3 * self.size + (16 << 20)) as disk:
                if disk is not None:
                    work = partial(self.full_disk, kill_before=i % 2 == 1)
                    self.attempt("full disk", work, disk=disk, disk_too=i % 4 > 1)


# --- the disk and the server ---


@contextmanager
def small_disk(root: Path, size: int):
    """Mounts a disk of so many bytes; gives `None` where it cannot be had."""
    disk = Path(tempfile.mkdtemp(prefix="disk-", dir=root))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield disk if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


class Server(http.server.ThreadingHTTPServer):
    """Sends a zip archive of some MB, slowly; adds a byte to the try's `effort` for each kB."""

    daemon_threads = True

    def __init__(self):
        file, rng = io.BytesIO(), np.random.default_rng(0)
        with zipfile.ZipFile(file, "w") as archive:
            for i in range(40):
                archive.writestr(f"folder/{i}.bin", rng.bytes(150_000))
        self.content = file.getvalue()
        super().__init__(("127.0.0.1", 0), Sender)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Sender(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, start = self.server.content, 0
        given = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if given and self.headers.get("If-Range", '"a"') == '"a"':
            start = int(given[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"a"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        with suppress(OSError), open(Path(self.path) / "notes" / "effort", "ab", 0) as effort:
            for place in range(start, len(content), 32_000):
                self.wfile.write(content[place : place + 32_000])
                effort.write(b"." * 32)
                time.sleep(0.01)

    def log_message(self, *arguments):
        pass


def write_inputs(folder: Path, names: set[str]) -> None:
    """Each in a process of its own: Keras stays out of this one."""
    for name in sorted(names):
        print(f"{time.strftime('%H:%M:%S')} inputs: {name}", flush=True)
        command = [sys.executable, SCRIPT, "write", name, folder / name]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, help="in all; by default 60")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=JOBS, action="append", help="may be repeated")
    parser.add_argument("--quick", action="store_true", help=f"a few tries of {', '.join(QUICK)}")
    arguments = parser.parse_args()
    names = arguments.only or (QUICK if arguments.quick else JOBS)
    kills = arguments.kills or (3 * len(names) if arguments.quick else 60)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too

    root = Path(tempfile.mkdtemp(prefix="kills-")).resolve()
    with small_disk(root, 1 << 20) as disk:
        if disk is None:
            print("No small disk can be mounted here (it takes root): that part is left out.")
    write_inputs(root / "inputs", {name for job in names for name in JOBS[job].inputs})
    url = f"http://127.0.0.1:{Server().server_port}"
    rows, failures = [], []
    for i, name in enumerate(names):
        attack = Attack(name, root, url, arguments.seed)
        attack.all(kills // len(names) + (i < kills % len(names)))
        for kind, count in attack.counts.items():
            rows.append({"job": name, "kind": kind, **{key: count[key] for key in COUNTS}})
        failures += attack.failures
    total = {key: sum(row[key] for row in rows) for key in COUNTS}
    table = [{key: key for key in rows[0]}, dict.fromkeys(rows[0], "---"), *rows]
    for row in (*table, {"job": "all", "kind": "", **total}):
        print(f"| {' | '.join(str(value or '') for value in row.values())} |")
    for failure in failures:
        print(f"\nFAILED: {failure}")
    print(f"\n{json.dumps({'rows': rows, 'failures': failures})}")
    if not failures:
        shutil.rmtree(root)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
