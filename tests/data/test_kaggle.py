"""Credentials where Kaggle's own tools look for them, and in their order."""

import base64
import json
import sys
from pathlib import Path

import pytest
import requests

from common.data.kaggle import kaggle_auth
from common.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".kaggle").mkdir()
    return tmp_path


def sent():
    request = requests.Request("GET", "http://localhost/", auth=kaggle_auth())
    return request.prepare().headers.get("Authorization")


def basic(user, key):
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def write_key(folder, user):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": user, "key": "k"}))


def test_nothing():
    assert kaggle_auth() is None


def test_in_the_order_of_kaggles_tools(home, monkeypatch):
    write_key(home / ".kaggle", "file")
    assert sent() == basic("file", "k")
    write_key(home / "elsewhere", "named")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "elsewhere"))
    assert sent() == basic("named", "k")
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    assert sent() == basic("named", "k")  # A name without a key is no proof.
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert sent() == basic("me", "secret")
    (home / ".kaggle/access_token.txt").write_text("from-txt\n")
    assert sent() == "Bearer from-txt"
    (home / ".kaggle/access_token").write_text("from-file\n")
    assert sent() == "Bearer from-file"
    monkeypatch.setenv("KAGGLE_API_TOKEN", "from-environment")
    assert sent() == "Bearer from-environment"
    (home / "token").write_text("from-named-file")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "token"))
    assert sent() == "Bearer from-named-file"


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux has ~/.config")
def test_config_folder_where_there_is_no_old_one(home, monkeypatch):
    (home / ".kaggle").rmdir()
    write_key(home / ".config/kaggle", "new")
    assert sent() == basic("new", "k")
    write_key(home / "xdg/kaggle", "xdg")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert sent() == basic("xdg", "k")


@pytest.mark.parametrize("text", ["{}", "[]", '{"username": "me", "key": ""}'])
def test_incomplete_key(home, text):
    (home / ".kaggle/kaggle.json").write_text(text)
    with pytest.raises(ConfigError, match=r'kaggle\.json needs "username" and "key"'):
        kaggle_auth()


def test_without_a_home_folder(home, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert kaggle_auth() is None
    write_key(home / "config/kaggle", "xdg")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        assert sent() == basic("xdg", "k")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    assert sent() == "Bearer token"
    monkeypatch.setenv("KAGGLE_API_TOKEN", "~nosuchuser/token")
    with pytest.raises(ConfigError, match="KAGGLE_API_TOKEN '~nosuchuser/token' begins"):
        kaggle_auth()


def test_tilde(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    write_key(home / "keys", "me")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", "~/keys")
    assert sent() == basic("me", "k")
    (home / "token").write_text("\ufefffrom-file\r\n", encoding="utf-8")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "~/token")
    assert sent() == "Bearer from-file"
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "gone"))
    with pytest.raises(ConfigError, match="names a file that is not there"):
        kaggle_auth()


@pytest.mark.parametrize(
    "content", [b"two\nlines", b"a b", "tok\u00e9n".encode(), b"\xff\xfe\0", b"\0"]
)
def test_what_cannot_be_a_token_is_told_but_not_shown(home, content):
    (home / ".kaggle/access_token").write_bytes(content)
    with pytest.raises(ConfigError, match=r"access_token.* make a new one") as error:
        kaggle_auth()
    assert "lines" not in str(error.value)


def test_token_in_the_environment_that_cannot_be_one(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", '{"username": "me",\n"key": "secret"}')
    with pytest.raises(ConfigError, match="What is in KAGGLE_API_TOKEN cannot be") as error:
        kaggle_auth()
    assert "secret" not in str(error.value)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x" * 5000)  # longer than a path may be
    assert sent() == "Bearer " + "x" * 5000


@pytest.mark.parametrize("value", [1, ["k"], {"a": 1}, True, "a\nb", "clé"])
def test_key_of_another_type(home, value):
    (home / ".kaggle/kaggle.json").write_text(json.dumps({"username": "me", "key": value}))
    with pytest.raises(ConfigError, match=r"kaggle\.json cannot be a token, user or key"):
        kaggle_auth()


def test_folders_and_unreadable_files(home, monkeypatch):
    (home / ".kaggle/access_token").mkdir()
    (home / ".kaggle/kaggle.json").mkdir()
    assert kaggle_auth() is None
    (home / ".kaggle/access_token.txt").write_text("x")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"Could not read .*access_token\.txt: Permission denied"):
        kaggle_auth()


def test_damaged_key(home):
    (home / ".kaggle/kaggle.json").write_text("{")
    with pytest.raises(DataError, match=r"kaggle\.json is not valid JSON"):
        kaggle_auth()
