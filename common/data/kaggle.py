"""Kaggle's credentials, found where its own tools look for them."""

import os
import sys
from pathlib import Path

from requests.auth import AuthBase, HTTPBasicAuth

from common.errors import ConfigError
from common.files import read_json

# What to tell a user who has none.
HOW_TO_AUTHENTICATE = (
    "make a token at https://www.kaggle.com/settings/api and put it into KAGGLE_API_TOKEN or into "
    "~/.kaggle/access_token (or an older key: KAGGLE_USERNAME and KAGGLE_KEY, or "
    "~/.kaggle/kaggle.json)"
)


class _Bearer(AuthBase):
    def __init__(self, token: str):
        self.token = token

    def __call__(self, request):
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def kaggle_auth() -> AuthBase | None:
    """What proves to Kaggle who asks, for `requests`; `None` if there is nothing.

    In the order of Kaggle's own tools (kagglesdk 0.1, kagglehub 1.0, kaggle 2.2):

    1. a token, or the name of a file with one, in `KAGGLE_API_TOKEN`;
    2. a token in `~/.kaggle/access_token` (or `access_token.txt`);
    3. a user and key in `KAGGLE_USERNAME` and `KAGGLE_KEY`;
    4. a user and key in `kaggle.json`, in `KAGGLE_CONFIG_DIR` or in `~/.kaggle` (on Linux in
       `~/.config/kaggle` where there is no `~/.kaggle`).

    Raises:
        ConfigError: if `kaggle.json` lacks a value.
        DataError: if it is no JSON.
    """
    if token := _token():
        return _Bearer(token)
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if not (user and key):
        path = _config_folder() / "kaggle.json"
        if not path.is_file():
            return None
        known = read_json(path)
        if isinstance(known, dict):
            user, key = known.get("username"), known.get("key")
        if not (user and key):
            raise ConfigError(f'{path} needs "username" and "key". Download it anew from Kaggle.')
    return HTTPBasicAuth(user, key)


def _token() -> str | None:
    value = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if value and not Path(value).is_file():
        return value
    home = Path.home() / ".kaggle"
    for path in (Path(value), home / "access_token", home / "access_token.txt"):
        if path.is_file() and (token := path.read_text(encoding="utf-8").strip()):
            return token
    return None


def _config_folder() -> Path:
    if named := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(named).expanduser()
    folder = Path.home() / ".kaggle"
    if sys.platform.startswith("linux") and not folder.exists():
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return folder
