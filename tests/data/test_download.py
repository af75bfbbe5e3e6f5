"""The downloader against a server that behaves badly."""

import hashlib
import http.server
import io
import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
import zipfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from requests.auth import HTTPBasicAuth

from common.data import download as module
from common.data.connections import Failed, new_session
from common.data.download import download, downloading, file_hash
from common.errors import ConfigError, CourseError, DataError
from common.files import hold

CONTENT = bytes(range(256)) * 4096  # 1 MiB
OTHER = CONTENT[::-1]
CONTEXT = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
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
            self.server.conditions.append(self.headers.get("If-Range"))
            self.server.proofs.append(self.headers.get("Authorization"))
            count = self.server.seen[kind]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        with suppress(ConnectionError):
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

    def _versions(self, start, count):
        """Cut at first. `server.state`: the validators of the first and all later answers, the
        later content, and whether `If-Range` is heeded."""
        first, later, content, heeds = self.server.state
        headers, body = (first, CONTENT) if count == 1 else (later, content)
        asked = self.headers.get("If-Range")
        if start and (not heeds or asked in (None, *headers.values())):
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._send(206, body[start:], Content_Range=span, **headers)
        else:
            self._send(200, body[:600_000] if count == 1 else body, len(body), **headers)

    def _stalling(self, start, count):
        if count > 1:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            return self._send(206, CONTENT[start:], Content_Range=span, ETag='"a"')
        self._send(200, CONTENT[:600_000], len(CONTENT), ETag='"a"')
        self.server.release.wait(60)

    def _body(self, start, count):
        self._send(200, self.server.state)

    def _lengthless(self, start, count):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.state)
        self.close_connection = True

    def _chunked(self, start, count):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")
        self.close_connection = True

    def _endless(self, start, count):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def _drip(self, start, count):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self._drops(CONTENT)

    def _driphead(self, start, count):
        self._drops(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000)

    def _drops(self, data):
        for i in range(len(data)):
            self.wfile.write(data[i : i + 1])
            time.sleep(0.02)

    def _later(self, start, count):
        if count == 1:
            self._send(429, b"", Retry_After=self.server.state)
        else:
            self._good(start, count)

    def _garbage(self, start, count):
        self.wfile.write(b"\x1b[31m" + b"x" * 60_000 + b"\r\n\r\n")
        self.close_connection = True

    def _circle(self, start, count):
        self._send(302, b"", Location="/circle")

    def _tofile(self, start, count):
        self._send(302, b"", Location="file:///etc/passwd")

    def _longmove(self, start, count):
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def _gzip(self, start, count):
        self._send(200, CONTENT, Content_Encoding="x-gzip")


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        httpd.seen, httpd.ranges, httpd.proofs = Counter(), [], []
        httpd.conditions, httpd.state, httpd.release = [], None, threading.Event()
        httpd.lock = threading.Lock()
        httpd.handle_error = lambda *_: None  # clients that hang up
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield httpd
        httpd.shutdown()


def fetch(server, kinds, path, sha256=SHA256, **options):
    urls = [server.url + kind for kind in kinds.split()]
    return download(urls, path, sha256, backoff=0.001, timeout=5, progress=False, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_once(server, tmp_path):
    path = tmp_path / "new" / "file.bin"
    for _ in range(2):
        assert fetch(server, "good", path) == path
    assert path.read_bytes() == CONTENT
    assert server.seen["good"] == 1
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize(
    ("kind", "requests"), [("cut", 6), ("norange", 2), ("busy", 3), ("gzip", 1), ("longmove", 1)]
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
    assert "neither encryption nor" in caplog.text
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]
    caplog.clear()
    assert fetch(server, "good", path, sha256=None) == path
    assert not caplog.text and server.seen["good"] == 1


def test_without_a_checksum_mirrors_are_not_mixed(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"of who knows what")
    path = fetch(server, "stuck good", tmp_path / "file.bin", sha256=None, retries=1)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def _in_process(url, path, barrier):
    barrier.wait()
    download(url, path, SHA256, progress=False)


def test_two_processes_download_once(server, tmp_path):
    barrier = CONTEXT.Barrier(2)
    arguments = (server.url + "good", tmp_path / "file.bin", barrier)
    processes = [CONTEXT.Process(target=_in_process, args=arguments) for _ in range(2)]
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


# --- going on where a cut or a kill has left ---

TAG, OTHER_TAG, WEAK = {"ETag": '"a"'}, {"ETag": '"b"'}, {"ETag": 'W/"a"'}
DATED = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
REDATED = {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}
# Not a minute before the answer, by a clock that is ahead: it may change once more.
JUST_NOW = {"Last-Modified": "Fri, 01 Jan 2100 00:00:00 GMT"}
GOES_ON, ANEW = "bytes=600000-", None


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(
    ("first", "later", "content", "heeds", "ranges"),
    [
        (TAG, TAG, CONTENT, True, [GOES_ON]),
        (DATED, DATED, CONTENT, True, [GOES_ON]),
        ({**WEAK, **DATED}, {**WEAK, **DATED}, CONTENT, True, [GOES_ON]),
        (TAG, OTHER_TAG, OTHER, True, [GOES_ON]),
        (DATED, REDATED, OTHER, True, [GOES_ON]),
        (TAG, OTHER_TAG, OTHER, False, [GOES_ON, ANEW]),
        (TAG, {}, OTHER, False, [GOES_ON, ANEW]),
        (TAG, TAG, OTHER[:-5], False, [GOES_ON, ANEW]),
        (WEAK, WEAK, OTHER, True, [ANEW]),
        (JUST_NOW, JUST_NOW, OTHER, True, [ANEW]),
        ({}, {}, OTHER, True, [ANEW]),
    ],
    ids=(
        "etag date weak-and-date changed changed-date heedless heedless-and-silent shorter weak "
        "too-new nothing"
    ).split(),
)
def test_never_joined_from_two(server, tmp_path, first, later, content, heeds, ranges, killed):
    path = tmp_path / "file.bin"
    server.state = first, later, content, heeds
    if killed:  # what a kill leaves, and also a call that ends with a cut
        with pytest.raises(DataError, match="Could not download"):
            fetch(server, "versions", path, None, retries=1)
        kept = [".file.bin.lock", "file.bin.part", "file.bin.part.json"]
        assert names(tmp_path) == (kept if ranges[0] else kept[:1])
    assert fetch(server, "versions", path, None).read_bytes() == content
    assert server.ranges == [None, *ranges]
    if ranges[0]:
        assert server.conditions[1] == next(v for v in first.values() if not v.startswith("W/"))
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]


@pytest.mark.parametrize("heeds", [True, False])
def test_changed_meanwhile_with_a_checksum(server, tmp_path, heeds):
    server.state = TAG, OTHER_TAG, OTHER, heeds
    sha256 = hashlib.sha256(OTHER).hexdigest()
    assert fetch(server, "versions", tmp_path / "file.bin", sha256).read_bytes() == OTHER
    assert server.seen["versions"] == (2 if heeds else 3)


def test_killed_just_before_it_took_its_name(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    notes = {"url": server.url + "good", "validator": '"a"', "total": len(CONTENT)}
    (tmp_path / "file.bin.part.json").write_text(json.dumps(notes))
    assert fetch(server, "good", tmp_path / "file.bin", None).read_bytes() == CONTENT
    assert not server.seen


@pytest.mark.parametrize(
    "notes",
    ["", "[]", "{", '{"url": 1}', '{"url": "U", "validator": "x\\ny", "total": "x"}', None],
)
def test_damaged_notes(server, tmp_path, notes):
    (tmp_path / "file.bin.part").write_bytes(OTHER[:1000])
    if notes is not None:
        notes = notes.replace("U", server.url + "good")
        (tmp_path / "file.bin.part.json").write_text(notes)
    assert fetch(server, "good", tmp_path / "file.bin", None).read_bytes() == CONTENT
    assert server.ranges == [None]


def test_what_one_mirror_sent_is_not_continued_by_another(server, tmp_path):
    server.state = TAG, TAG, CONTENT, True
    path = fetch(server, "versions good", tmp_path / "file.bin", None, retries=1)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def _download_plainly(url, path):
    download(url, path, None, progress=False)


def test_goes_on_after_a_real_kill(server, tmp_path):
    path, part = tmp_path / "file.bin", tmp_path / "file.bin.part"
    process = CONTEXT.Process(target=_download_plainly, args=(server.url + "stalling", path))
    process.start()
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 400_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    server.release.set()
    received = part.stat().st_size
    assert fetch(server, "stalling", path, None).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={received}-"]


# --- what arrives is opened ---

PAGE = b"\xef\xbb\xbf \n<!-- x --><!DOCTYPE html><html><head><title>\n Sign &amp; in</title>" * 2


def zip_bytes(size=3000):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("a.txt", os.urandom(size))
    return file.getvalue()


def photo_bytes(kind=".jpg"):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("file.zip", zip_bytes()),
        ("file.json", b'{"a": 1}'),
        ("file.jpg", photo_bytes()),
        ("file.txt", b"words"),
    ],
)
def test_web_page_is_never_kept(server, tmp_path, name, right, kept, caplog):
    """Nor does one that an earlier version kept, with its hash, lock the right file out."""
    path = tmp_path / name
    if kept:
        path.write_bytes(PAGE)
        (tmp_path / f"{name}.sha256").write_text(f"{hashlib.sha256(PAGE).hexdigest()}  {name}\n")
    before = names(tmp_path)
    server.state = PAGE
    with pytest.raises(DataError, match=r"(?s)wrong file: is no .* but a web page, 'Sign & in'"):
        fetch(server, "body", path, None)
    assert server.seen["body"] == 1
    assert [n for n in names(tmp_path) if n != f".{name}.lock"] == before
    server.state = right
    assert fetch(server, "body", path, None).read_bytes() == right
    assert (tmp_path / f"{name}.sha256").read_text().startswith(hashlib.sha256(right).hexdigest())
    assert names(tmp_path) == [name, f"{name}.sha256"]
    assert ("is not the file that was there before" in caplog.text) == kept


def test_right_file_put_there_by_hand_is_taken(server, tmp_path, caplog):
    path = tmp_path / "file.zip"
    path.write_bytes(zip_bytes())
    fetch(server, "missing", path, None)
    path.write_bytes(other := zip_bytes())
    caplog.clear()
    assert fetch(server, "missing", path, None).read_bytes() == other
    assert "is not the file that was there before" in caplog.text and not server.seen
    caplog.clear()
    fetch(server, "missing", path, None)
    assert not caplog.text


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"no hash"])
def test_damaged_file_of_the_hash(server, tmp_path, text):
    path = tmp_path / "file.zip"
    path.write_bytes(zip_bytes())
    (tmp_path / "file.zip.sha256").write_bytes(text)
    assert fetch(server, "missing", path, None) == path


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("file.zip", zip_bytes()[:2000], "is no zip archive, or not a whole one"),
        ("file.tar.gz", b"\x1f\x8bxxx", "is no tar archive"),
        ("file.json", b'{"a": ', "is no JSON file"),
        ("file.jpg", photo_bytes()[:-30], "truncated or damaged JPEG"),
        ("file.png", photo_bytes(".png")[:-30], "truncated or damaged PNG"),
    ],
)
def test_body_that_was_cut_where_nothing_else_tells(server, tmp_path, name, content, told):
    server.state = content
    with pytest.raises(DataError, match=f"wrong file: .*{told}"):
        fetch(server, "lengthless", tmp_path / name, None)
    assert names(tmp_path) == [f".{name}.lock"]


def test_page_in_place_of_the_published_file(server, tmp_path):
    server.state = PAGE
    with pytest.raises(DataError, match="wrong file: has the sha256 .*a web page, 'Sign & in'"):
        fetch(server, "body", tmp_path / "file.bin")


def test_one_of_many_files(server, tmp_path):
    server.state = photo_bytes()
    with new_session() as session:
        for i in range(3):
            fetch(server, "body", tmp_path / f"{i}.jpg", None, session=session)
    assert names(tmp_path) == ["0.jpg", "1.jpg", "2.jpg"]


# --- bounds ---


@pytest.mark.parametrize("kind", ["drip", "driphead"])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_too_slow(server, tmp_path, kind, sha256):
    with pytest.raises(DataError, match=r"too slow: \d+ bytes in"):
        fetch(server, kind, tmp_path / "file.bin", sha256, retries=2, patience=0.1)
    assert server.seen[kind] == 2


def test_longer_than_it_can_be(server, tmp_path):
    with pytest.raises(DataError, match="no end after the 3,000,000 bytes"):
        fetch(server, "endless", tmp_path / "file.bin", None, most_bytes=3_000_000)
    assert names(tmp_path) == [".file.bin.lock"]
    with pytest.raises(DataError, match="it has 1,048,576 bytes, more than the 1,000 expected"):
        fetch(server, "good", tmp_path / "file.bin", None, most_bytes=1000)


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_endless_body_stops_before_the_disk_is_full(server, tmp_path, monkeypatch, sha256):
    usage = shutil.disk_usage(tmp_path)._replace(total=10**8, free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="no end after .* the disk is nearly full: free some space"):
        fetch(server, "endless", tmp_path / "file.bin", sha256)
    assert names(tmp_path) == [".file.bin.lock"]


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        ("7", 7),
        ("in 250 seconds, as a date", 225),
        ("0", 0.001),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0.001),
        ("soon", 0.001),
        ("9" * 400, 0.001),
    ],
)
def test_retry_after(server, tmp_path, monkeypatch, state, seconds):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    if state.startswith("in"):
        state = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    server.state = state
    assert fetch(server, "later", tmp_path / "file.bin").read_bytes() == CONTENT
    assert slept[0] == pytest.approx(seconds, abs=50 if seconds > 50 else 0.01)


def test_retry_after_too_long(server, tmp_path):
    server.state = "86400"
    with pytest.raises(DataError, match="429 .*asks to come back in 1,440 minutes"):
        fetch(server, "later", tmp_path / "file.bin")
    assert server.seen["later"] == 1


@pytest.mark.parametrize(
    ("kind", "told", "requests"),
    [
        ("garbage", r"\\x1b\[31mx{200}", 2),
        ("circle", "TooManyRedirects", 31),
        ("tofile", "InvalidSchema", 1),
        ("chunked", "IncompleteRead|InvalidChunkLength|ended prematurely", 2),
        ("body", "an empty answer", 2),
        ("lengthless", "an empty answer", 2),
    ],
)
def test_odd_answers(server, tmp_path, kind, told, requests):
    server.state = b""
    with pytest.raises(DataError, match=told) as error:
        fetch(server, kind, tmp_path / "file.bin", None, retries=2)
    assert len(str(error.value)) < 700 and "Free some space" not in str(error.value)
    assert server.seen[kind] == requests
    assert names(tmp_path) == [".file.bin.lock"]


def test_no_way_from_https_to_http():
    first, second = requests.Response(), requests.Response()
    first.url, second.url = "https://a/x", "http://b/x"
    second.history = [first]
    job = module._Download(Path("x"), "", 1, 1, 1, 1, 1, 1, False, None, None)
    with pytest.raises(Failed, match="leads from https to http"):
        job._check_way(second)
    job.sha256 = SHA256
    job._check_way(second)


def test_certificates_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(DataError, match="certificate bundle") as error:
        download("https://localhost:1/x", tmp_path / "x", None, backoff=0, progress=False)
    assert "Free some space" not in str(error.value)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path, told in (
        (tmp_path / "file" / "x.zip", "A file stands where a folder has to be"),
        (tmp_path, "A file stands where a folder has to be, or a folder for a file"),
        (tmp_path / ("x" * 300), "Choose a shorter name"),
    ):
        with pytest.raises(CourseError, match=told):
            download("http://localhost:1/x", path, None)


def test_link_stays_one(server, tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / "file.bin"
    link.symlink_to(tmp_path / "far" / "file.bin")
    assert fetch(server, "good", link) == link
    assert link.is_symlink() and link.read_bytes() == CONTENT
    assert names(tmp_path / "far") == ["file.bin"]


def test_leftovers_go_once_the_file_is_there(server, tmp_path):
    for name in ("file.bin", "file.bin.part", "file.bin.part.json"):
        (tmp_path / name).write_bytes(CONTENT)
    fetch(server, "missing", tmp_path / "file.bin")
    assert names(tmp_path) == ["file.bin"] and not server.seen


def test_waiting_is_told(server, tmp_path, caplog):
    path = tmp_path / "file.bin"
    ready, done = threading.Event(), threading.Event()

    def other():
        with hold(path.with_name(f".{path.name}.lock"), "downloads file.bin"):
            ready.set()
            done.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(20)
    threading.Timer(0.1, done.set).start()
    fetch(server, "good", path)
    thread.join()
    assert "Waiting for another process that downloads file.bin" in caplog.text


def test_how_much_is_told_before_and_how_to_do_without_after(tmp_path, capsys):
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]

    def call(fails=False):
        with downloading("The set is not in data", "2 GB", "Ask.", *archives):
            if fails:
                raise DataError("no line")
        return capsys.readouterr().err

    line = 'The set is not in data: downloading 2 GB (dataset="synthetic" needs no download).\n'
    assert call() == line
    archives[0].touch()
    assert call() == line
    archives[1].touch()
    assert call() == ""
    with pytest.raises(DataError) as caught:
        call(fails=True)
    first = "The set is not in data and could not be downloaded.\nno line\nAsk.\nOr choose "
    assert str(caught.value).startswith(first + 'dataset="synthetic" (--dataset synthetic)')


def test_file_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
