import errno
import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import common
from common import files
from common.errors import CourseError, DataError
from common.files import (
    check_output,
    hold,
    os_advice,
    output_lock,
    own_prefix,
    read_json,
    remove_orphans,
    write_atomically,
    write_json,
    write_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture(autouse=True)
def every_folder_is_new():
    files._clean_once.cache_clear()
    files._warn_once.cache_clear()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- writing ---


def test_the_old_file_stays_on_any_error(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_file_system_that_flushes_only_what_is_open_for_writing(tmp_path, monkeypatch):
    """As Windows does."""
    fcntl = pytest.importorskip("fcntl")
    real = os.fsync

    def fsync(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "a", "x")


def test_all_files_are_flushed_in_one_way():
    """So that what a file system cannot do is tolerated everywhere."""
    folder = Path(common.__file__).parent
    found = [p.name for p in folder.rglob("*.py") if "os.fsync" in p.read_text(encoding="utf-8")]
    assert found == ["files.py"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush(tmp_path, monkeypatch, number):
    def fsync(handle):
        raise OSError(number, "no")

    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"


def test_a_file_system_without_permissions(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    write_text(tmp_path / "a", "x")
    monkeypatch.setattr("os.chmod", refuse)
    write_text(tmp_path / "a", "y")
    assert (tmp_path / "a").read_text() == "y"


@posix
def test_permissions_are_those_of_other_files_and_stay(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    write_text(tmp_path / "new", "y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


@posix
def test_a_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "target.json")  # not there yet
    for value in (1, 2):
        write_json(link, value)
        assert link.is_symlink() and read_json(tmp_path / "there" / "target.json") == value
    assert names(tmp_path / "there") == ["target.json"]


@posix
def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_json(pipe, [1])
    reader.join(10)
    assert json.loads(found[0]) == [1] and stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_a_device_is_written_into(tmp_path):
    check_output("/dev/null")
    write_json("/dev/null", [1])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = "from common.files import *; check_output('/dev/stdout'); write_json('/dev/stdout', 7)"
    root = Path(__file__).parents[1]
    for stdout in (subprocess.PIPE, open(tmp_path / "out", "w+", encoding="utf-8")):
        done = subprocess.run([sys.executable, "-c", code], cwd=root, stdout=stdout, text=True)
        text = done.stdout if stdout == subprocess.PIPE else (tmp_path / "out").read_text()
        assert text == "7\n"
        if isinstance(stdout, io.IOBase):
            stdout.close()


def test_names_that_are_no_utf_8_and_values_that_are_no_numbers(tmp_path):
    value = {"image": "caf\udce9.jpg", "loss": [float("nan"), float("-inf"), 1.5]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")

    def refuse(name):
        raise AssertionError(name)

    again = json.loads(text, parse_constant=refuse)
    assert again == {"image": "caf\udce9.jpg", "loss": [None, None, 1.5]}


TROUBLE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EROFS: "Allow writing",
    errno.EACCES: "Allow writing",
    errno.ENAMETOOLONG: "shorter name",
    errno.ENOTDIR: "stands where a folder",
    errno.ENOENT: "Look at that folder",
    errno.EIO: "Look at that folder",
}


@pytest.mark.parametrize("number", TROUBLE)
def test_advice_fits_the_error(tmp_path, monkeypatch, number):
    def replace(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(CourseError, match=TROUBLE[number]) as told:
        write_text(tmp_path / "a", "x")
    assert ("Free some space" in str(told.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert names(tmp_path) == []


def test_advice_for_a_library_that_tells_in_words_only():
    assert os_advice(OSError("write failed: No space left on device")).startswith("Free some")


@pytest.mark.parametrize("name", ["x" * 300, "a/b", "folder", "a\0b"])
def test_outputs_are_checked_before_the_work(tmp_path, name):
    (tmp_path / "a").write_text("a file")
    (tmp_path / "folder").mkdir()
    for write in (check_output, lambda path: write_text(path, "x")):
        with pytest.raises(CourseError, match=r"Could not write|cannot be a file's name"):
            write(tmp_path / name)
    check_output(tmp_path / "new" / "deep" / "table.csv")
    assert names(tmp_path / "new" / "deep") == []


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".1.2.3.tar.gz", "." + "x" * 100])
def test_savers_see_the_suffix(tmp_path, suffix):
    with write_atomically(tmp_path / f"a{suffix}") as temporary:
        temporary.write_text("x")
        assert temporary.name.endswith("".join(Path(suffix).suffixes[-2:])) or len(suffix) > 50
    assert names(tmp_path) == [f"a{suffix}"]


# --- what killed processes leave ---


def test_what_killed_processes_left_goes_and_all_else_stays(tmp_path):
    ours = own_prefix("writing")
    gone = ours.replace(f"-{os.getpid()}-", "-4194304-")  # no such process
    reused = ours.replace(ours.split("-")[3], "12345")  # our number, another start
    other = ours.replace(ours.split("-")[1], "00000000")  # another machine's
    for name in (ours, gone, reused, other, ".writing-old", ".extracting-x"):
        (tmp_path / f"{name}x").touch()
    (tmp_path / f"{gone}folder").mkdir()
    (tmp_path / f"{gone}folder" / "file").touch()
    write_text(tmp_path / "a", "x")
    left = {f"{name}x" for name in (ours, other, ".writing-old", ".extracting-x")}
    assert set(names(tmp_path)) == left | {"a"}
    remove_orphans(tmp_path / "not there", "writing")


def test_a_killed_write_is_cleaned_up_by_the_next_process(tmp_path):
    code = (
        "import os, sys\nfrom common.files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as path:\n    os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[1]
    if os.name != "posix":
        code = code.replace("os.kill(os.getpid(), 9)", "os._exit(9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], cwd=root)
    assert len(names(tmp_path)) == 1
    write_text(tmp_path / "b", "x")
    assert names(tmp_path) == ["b"]


# --- reading ---

BAD_JSON = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"1" * 5000,
    b'{"a": \x00}',
    b"nan",
]


@pytest.mark.parametrize("content", BAD_JSON, ids=range(len(BAD_JSON)))
def test_whatever_is_no_json_is_one_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json") as told:
        read_json(path)
    assert len(str(told.value)) < 500 + len(str(tmp_path))


def test_json_of_another_kind_or_none(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="Could not read"):
        read_json(path)
    path.write_bytes(b'\xef\xbb\xbf{"a": NaN}')
    assert read_json(path, dict) == {"a": None}
    with pytest.raises(DataError, match="does not hold a list"):
        read_json(path, list)
    with pytest.raises(DataError, match="Could not read"):
        read_json(tmp_path)


# --- one process at a time ---


def holder(path, seconds):
    code = (
        "import sys, time\nfrom common.files import hold\n"
        "with hold(sys.argv[1], 'x'):\n"
        "    print('held', flush=True)\n    time.sleep(float(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(seconds)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_with_a_word(tmp_path, caplog):
    other = holder(tmp_path / "lock", 1)
    with hold(tmp_path / "lock", "trains the run 'a'"):
        assert other.wait(0.5) == 0
    assert "Waiting for another process that trains the run 'a'" in caplog.text


def test_a_killed_process_lets_go(tmp_path):
    other = holder(tmp_path / "lock", 100)
    threading.Timer(0.3, other.kill).start()
    start = time.monotonic()
    with hold(tmp_path / "lock", "x"):
        assert time.monotonic() - start < 50


def test_a_thread_may_enter_again_and_another_thread_waits(tmp_path):
    order = []

    def second():
        with hold(tmp_path / "lock", "x"):
            order.append("second")

    with hold(tmp_path / "lock", "x"), hold(tmp_path / "lock", "x"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"),
                                   OSError(errno.ENOTSUP, "Not supported"),
                                   NotImplementedError("no flock")])  # fmt: skip
def test_a_file_system_that_refuses_locks(tmp_path, monkeypatch, caplog, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr("common.files.FileLock.acquire", refuse)
    for _ in range(2):
        with hold(tmp_path / "lock", "x"):
            pass
    assert caplog.text.count("cannot lock files") == 1


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match="Could not write"), hold(tmp_path / "file" / "l", "x"):
        pass


def test_the_error_inside_is_the_error_outside(tmp_path):
    with pytest.raises(PermissionError), hold(tmp_path / "lock", "x"):
        raise PermissionError("mine")
    with hold(tmp_path / "lock", "x"):
        pass


def test_locks_of_outputs_lie_elsewhere(tmp_path):
    assert output_lock(tmp_path / "a") != output_lock(tmp_path / "b")
    with hold(output_lock(tmp_path / "a"), "x"):
        assert names(tmp_path) == []
