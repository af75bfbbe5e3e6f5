"""The downloader against a server that behaves badly, and archives that try to break out."""

import hashlib
import http.server
import io
import logging
import multiprocessing
import shutil
import stat
import tarfile
import threading
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from requests.auth import HTTPBasicAuth

from common.data.download import download, extract, file_hash
from common.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    """The path names the misbehaviour; `server.seen` counts requests and keeps their ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        kind = self.path.strip("/")
        asked = self.headers.get("Range")
        with self.server.lock:
            self.server.seen[kind] += 1
            self.server.ranges.append(asked)
            self.server.proofs.append(self.headers.get("Authorization"))
            count = self.server.seen[kind]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        getattr(self, f"_{kind}")(start, count)

    def _send(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length not in (None, len(body)):
            self.close_connection = True

    def _range(self, start, body):
        if start >= len(CONTENT):
            self._send(416, b"", Content_Range=f"bytes */{len(CONTENT)}")
        elif start:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self._send(206, body, len(CONTENT) - start, Content_Range=span)
        else:
            self._send(200, body, len(CONTENT))

    def _good(self, start, count):
        self._range(start, CONTENT[start:])

    def _cut(self, start, count):
        self._range(start, CONTENT[start : start + 200_000])

    def _stuck(self, start, count):
        self._send(200, CONTENT[:1000], len(CONTENT))

    def _norange(self, start, count):
        self._send(200, CONTENT if count > 1 else CONTENT[:300_000], len(CONTENT))

    def _wrongrange(self, start, count):
        if not start:
            return self._good(0, count)
        self._send(206, CONTENT[5:], Content_Range=f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")

    def _lies_long(self, start, count):
        self._send(200, CONTENT, len(CONTENT) + 5000)

    def _lies_short(self, start, count):
        self._send(200, CONTENT, len(CONTENT) - 5000)

    def _wrong(self, start, count):
        self._send(200, b"<html>moved</html>")

    def _missing(self, start, count):
        self._send(404, b"")

    def _busy(self, start, count):
        if count < 3:
            self._send(503, b"")
        else:
            self._good(start, count)

    def _moved(self, start, count):
        self._send(302, b"", Location=f"http://localhost:{self.server.server_port}/good")

    def _gzip(self, start, count):
        self._send(200, CONTENT, Content_Encoding="x-gzip")


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        httpd.seen, httpd.ranges, httpd.proofs = Counter(), [], []
        httpd.lock = threading.Lock()
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield httpd
        httpd.shutdown()


def fetch(server, kinds, path, sha256=SHA256, **options):
    urls = [server.url + kind for kind in kinds.split()]
    return download(urls, path, sha256, backoff=0.001, timeout=5, progress=False, **options)


def test_downloads_once(server, tmp_path):
    path = tmp_path / "new" / "file.bin"
    for _ in range(2):
        assert fetch(server, "good", path) == path
    assert path.read_bytes() == CONTENT
    assert server.seen["good"] == 1
    assert not path.with_name("file.bin.part").exists()


@pytest.mark.parametrize(
    ("kind", "requests"), [("cut", 6), ("norange", 2), ("busy", 3), ("gzip", 1)]
)
def test_troubled_server_still_delivers(server, tmp_path, kind, requests):
    assert fetch(server, kind, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.seen[kind] == requests


def test_goes_on_from_a_part_of_an_earlier_process(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:600_000])
    assert fetch(server, "good", tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=600000-"]


@pytest.mark.parametrize(
    "part", [CONTENT, CONTENT + b"too long", b"x" * 1000], ids=["whole", "too long", "other file"]
)
def test_odd_part(server, tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    assert fetch(server, "good", tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.seen["good"] == (1 if part == CONTENT else 2)


def test_wrong_content_range_starts_anew(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(server, "wrongrange", tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_mirrors_in_order(server, tmp_path):
    path = fetch(server, "missing wrong good", tmp_path / "file.bin")
    assert path.read_bytes() == CONTENT
    assert server.seen == {"missing": 1, "wrong": 1, "good": 1}


def test_error_names_every_address_and_reason(server, tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(DataError) as error:
        fetch(server, "missing wrong lies_short lies_long stuck", path, retries=2)
    lines = {line.split(": ")[0].rpartition("/")[2]: line for line in str(error.value).split("\n")}
    assert "404" in lines["missing"]
    assert "wrong file" in lines["wrong"] and "wrong file" in lines["lies_short"]
    assert "IncompleteRead" in lines["lies_long"] and "IncompleteRead" in lines["stuck"]
    assert str(path) in str(error.value)
    assert not path.exists()
    assert server.seen["missing"] == 1  # A 404 is not asked again.


def test_refused_connection_and_bad_address(tmp_path):
    with pytest.raises(DataError, match=r"refused[\s\S]*(No scheme|Invalid)"):
        download(
            ["http://127.0.0.1:1/x", "no-scheme/x"], tmp_path / "x", SHA256, backoff=0, retries=2
        )
    with pytest.raises(ConfigError, match="No address"):
        download([], tmp_path / "x", SHA256)


def test_proof_of_who_asks_goes_to_no_other_host(server, tmp_path):
    auth = HTTPBasicAuth("me", "secret")
    assert fetch(server, "moved", tmp_path / "file.bin", auth=auth).read_bytes() == CONTENT
    assert server.proofs == ["Basic bWU6c2VjcmV0", None]


def test_file_that_is_not_the_published_one_is_replaced(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"something else")
    assert fetch(server, "good", path).read_bytes() == CONTENT


def test_without_a_published_checksum(server, tmp_path, caplog):
    path = tmp_path / "file.bin"
    with caplog.at_level(logging.WARNING):
        fetch(server, "good", path, sha256=None)
    assert "unverified" in caplog.text
    assert (tmp_path / "file.bin.sha256").read_text() == f"{SHA256}  file.bin\n"
    path.write_bytes(b"changed since")
    with pytest.raises(DataError, match=r"wrong file.*kept in file\.bin\.sha256"):
        fetch(server, "wrong", path, sha256=None)
    assert fetch(server, "good", path, sha256=None).read_bytes() == CONTENT


def test_without_a_checksum_mirrors_are_not_mixed(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"of who knows what")
    path = fetch(server, "stuck good", tmp_path / "file.bin", sha256=None, retries=1)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def _in_process(url, path, barrier):
    barrier.wait()
    download(url, path, SHA256, progress=False)


def test_two_processes_download_once(server, tmp_path):
    context = multiprocessing.get_context("fork" if hasattr(__import__("os"), "fork") else "spawn")
    barrier = context.Barrier(2)
    arguments = (server.url + "good", tmp_path / "file.bin", barrier)
    processes = [context.Process(target=_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.seen["good"] == 1


def test_too_little_space_is_noticed_before(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs 1,048,576 bytes.*1,000 free"):
        fetch(server, "good", tmp_path / "file.bin")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full_while_writing(server, tmp_path):
    (tmp_path / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="Could not write .*No space left"):
        fetch(server, "good", tmp_path / "file.bin")


# --- extract ---


def make_tar(path, *members):
    """Members: (name, content) or a TarInfo."""
    with tarfile.open(path, "w:gz") as file:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(("make", "name"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_extract(tmp_path, make, name):
    archive = make(tmp_path / name, ("top/a.txt", b"alpha"), ("top/deep/b.txt", b"beta"))
    dest = extract(archive, tmp_path / "out")
    assert (dest / "top/a.txt").read_bytes() == b"alpha"
    assert (dest / "top/deep/b.txt").read_bytes() == b"beta"
    (dest / "top/a.txt").write_bytes(b"mine")
    extract(archive, dest)
    assert (dest / "top/a.txt").read_bytes() == b"mine"


def zip_link():
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "archive",
    [
        (make_tar, ("../evil.txt", b"x")),
        (make_tar, ("/tmp/evil.txt", b"x")),
        (make_tar, ("C:\\evil.txt", b"x")),
        (make_tar, special("link", tarfile.SYMTYPE, "../../etc")),
        (make_tar, special("link", tarfile.LNKTYPE, "/etc/passwd")),
        (make_tar, special("pipe", tarfile.FIFOTYPE)),
        (make_tar, special("device", tarfile.CHRTYPE)),
        (make_zip, ("../evil.txt", b"x")),
        (make_zip, ("/evil.txt", b"x")),
        (make_zip, ("a\\..\\..\\evil.txt", b"x")),
        (make_zip, (zip_link(), b"/etc")),
    ],
    ids=(
        "tar-parent tar-absolute tar-drive tar-symlink tar-hardlink tar-pipe tar-device "
        "zip-parent zip-absolute zip-backslashes zip-symlink"
    ).split(),
)
def test_extract_refuses(tmp_path, archive):
    make, member = archive
    path = make(tmp_path / "a.archive", ("fine.txt", b"fine"), member)
    with pytest.raises(DataError, match="is not unpacked: its member"):
        extract(path, tmp_path / "folder" / "out")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["out.lock"]
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(("make", "name"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_extract_damaged(tmp_path, make, name):
    archive = make(tmp_path / name, ("a.txt", bytes(range(256)) * 100))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extract_too_big(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", ("a.txt", b"x" * 2000))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"unpacks to 2,000 bytes.*1,000 free"):
        extract(archive, tmp_path / "out")


def test_file_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
