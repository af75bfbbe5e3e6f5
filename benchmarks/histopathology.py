"""Time and memory to read the IDC histopathology set, or a tree of the same shape.

    python benchmarks/histopathology.py tree DIR [--files 277524] [--patients 279]
    python benchmarks/histopathology.py read DIR

`tree` writes a tree of the official layout into DIR: patches of 5-6 kB that look
like stained tissue (a few hundred different ones), every patient's tumour in one region, 28 %
malignant. It takes the disk 8 kB a file (2.3 GB in all); cut off, it goes on with the next
patient. Any other folder of that layout can be read as well.

`read` makes each line in a process of its own, the imports not counted: the first read of all, in
files per second, with the largest anonymous memory of process and helpers (what is mapped from
files is not counted); a plain loop of `cv2.imread` over all files, which now are in the system's
memory, and the first read once more, under the same condition: their ratio; and three later opens,
each of which compares every file's name, size and time with what was kept. The cache lies beside
DIR for that time, 7.5 kB a file, and is removed; one that DIR has is left alone.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

FILES, PATIENTS, MALIGNANT = 277_524, 279, 0.284


# --- a tree of the official layout ---


def write_tree(root: Path, n_files: int, n_patients: int) -> None:
    import numpy as np
    from tqdm import tqdm

    from common.data.histopathology import patch_name

    rng = np.random.default_rng(0)
    files = [[draw_patch(rng, label) for _ in range(150)] for label in (0, 1)]
    counts = np.full(n_patients, n_files // n_patients)
    counts[: n_files % n_patients] += 1
    with tqdm(desc=f"writing {root}", total=n_files, unit=" files") as bar:
        for i, count in enumerate(counts):
            patient = str(8863 + 27 * i)
            whole, part = root / patient, root / f".writing-{patient}"
            if not whole.exists():
                shutil.rmtree(part, ignore_errors=True)
                for label in (0, 1):
                    (part / str(label)).mkdir(parents=True)
                places, labels = draw_slide(np.random.default_rng(i), count)
                for (x, y), label in zip(places, labels, strict=True):
                    name = patch_name(patient, x, y, label)
                    (part / str(label) / name).write_bytes(files[label][rng.integers(150)])
                part.rename(whole)
            bar.update(count)


def draw_patch(rng, label: int) -> bytes:
    """A PNG of violet nuclei (more where malignant) on pink fibres, with a camera's noise."""
    import cv2
    import numpy as np

    image = np.full((50, 50, 3), rng.normal((200, 150, 215), 8), np.float32)  # As OpenCV: BGR.
    fibres = cv2.GaussianBlur(rng.normal(0, 1, (50, 50)).astype(np.float32), (0, 0), 3)
    image += 12 * (fibres / fibres.std())[..., None]
    for x, y in rng.integers(0, 50, (rng.integers(4, 9) * (1 + label), 2)).tolist():
        cv2.circle(image, (x, y), int(rng.integers(2, 5)), (145, 70, 110), -1, cv2.LINE_AA)
    image = cv2.GaussianBlur(image, (0, 0), 0.7) + rng.normal(0, 5, image.shape)
    return cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes()


def draw_slide(rng, count: int):
    """Places (count, 2) on the grid in a disc, and labels (count,): the malignant ones nearest to
    one point."""
    import numpy as np

    side = int(np.ceil(np.sqrt(count * 1.4)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    disc = np.argsort(np.linalg.norm(grid - (side - 1) / 2, axis=1), kind="stable")[:count]
    grid = grid[np.sort(disc)]
    share = np.clip(rng.normal(MALIGNANT, 0.15), 0, 1)
    distance = np.linalg.norm(grid - grid[rng.integers(count)], axis=1)
    labels = (np.argsort(np.argsort(distance)) < share * count).astype(int)
    return (grid * 50 + 1).tolist(), labels.tolist()


# --- reading it; each of these in a process of its own ---


def plain(root: Path) -> tuple[int, float]:
    import cv2

    from common.data.histopathology import list_patches

    patches = list_patches(root)
    paths = [str(root / source) for source in patches.sources(0, len(patches))]
    start = time.perf_counter()
    for path in paths:
        assert cv2.imread(path) is not None
    return len(paths), time.perf_counter() - start


def ours(root: Path) -> tuple[int, float]:
    from common.data.histopathology import read_patches

    start = time.perf_counter()
    data = read_patches(root)
    return len(data), time.perf_counter() - start


STEPS = {"plain": plain, "ours": ours}


def measure(step: str, root: Path) -> tuple[int, float, int]:
    """Number of files, seconds, and the largest anonymous memory in bytes."""
    command = [sys.executable, __file__, step, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [parent, *parent.children(recursive=True)]
            peak = max(peak, sum(map(anonymous_memory, family)))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.05)
    output = process.stdout.read().split()
    if process.returncode:
        raise SystemExit(f"{step} failed; its error stands above.")
    return int(output[-2]), float(output[-1]), peak


def anonymous_memory(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if not status.parent.parent.is_dir():
        return process.memory_full_info().uss  # Mapped files are counted where there is no /proc.
    lines = [
        line
        for line in status.read_text(encoding="utf-8").splitlines()
        if line.startswith("RssAnon")
    ]
    return 1024 * int(lines[0].split()[1]) if lines else 0


def read(root: Path) -> None:
    beside = root.resolve().parent
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=beside) as folder:

        def fresh(name: str) -> Path:  # The same patients, where no cache lies yet.
            place = Path(folder) / name / root.resolve().name
            place.mkdir(parents=True)
            for entry in root.iterdir():
                if not entry.name.startswith("."):
                    (place / entry.name).symlink_to(entry.resolve())
            return place

        first = fresh("first")
        report("first read", *measure("ours", first))
        plain_rate = report("plain loop of cv2.imread", *measure("plain", first))
        rate = report("first read once more", *measure("ours", fresh("again")))
        print(f"{rate / plain_rate:.2f} x the plain loop")
        for _ in range(3):
            report("later open", *measure("ours", first))


def report(what: str, count: int, seconds: float, peak: int) -> float:
    rate = count / seconds
    print(
        f"{what:24} {count:>7} files {seconds:7.2f} s {rate:7.0f} files/s, "
        f"anonymous memory {peak / 1e6:.0f} MB at most",
        flush=True,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["tree", "read", *STEPS], metavar="{tree,read}")
    parser.add_argument("folder", type=Path, help="the folder of the patients")
    parser.add_argument("--files", type=int, default=FILES, help="how many to write")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="of how many patients")
    arguments = parser.parse_args()
    root = arguments.folder
    if arguments.step == "tree":
        write_tree(root, arguments.files, arguments.patients)
    elif arguments.step == "read":
        print(f"{os.cpu_count()} cores", flush=True)
        read(root)
    else:
        print(*STEPS[arguments.step](root))


if __name__ == "__main__":
    main()
