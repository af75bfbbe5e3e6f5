"""Credentials where Kaggle's own tools look for them, and in their order."""

import base64
import json
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


def test_damaged_key(home):
    (home / ".kaggle/kaggle.json").write_text("{")
    with pytest.raises(DataError, match=r"kaggle\.json is not valid JSON"):
        kaggle_auth()
