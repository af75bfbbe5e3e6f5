"""Kaggle's credentials, found where its own tools look for them."""

import os
import sys
from pathlib import Path

from requests.auth import AuthBase, HTTPBasicAuth

from common.errors import ConfigError
from common.files import read_json
from common.paths import expand, home_dir

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
        ConfigError: if a file cannot be read, `kaggle.json` lacks a value, or what is there
            cannot be a token or key. Never shows it.
        DataError: if `kaggle.json` is no JSON.
    """
    if token := _token():
        return _Bearer(token)
    user, key = (os.environ.get(f"KAGGLE_{name}", "").strip() for name in ("USERNAME", "KEY"))
    source = "KAGGLE_USERNAME or KAGGLE_KEY"
    if not (user and key):
        folder = _config_folder()
        source = folder / "kaggle.json" if folder else ""
        if not os.path.isfile(source):
            return None
        known = read_json(source)
        if isinstance(known, dict):
            user, key = known.get("username"), known.get("key")
        if not (user and key):
            raise ConfigError(f'{source} needs "username" and "key". Download it anew from Kaggle.')
    return HTTPBasicAuth(_checked(user, source), _checked(key, source))


def _token() -> str | None:
    value = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    # Not `Path.is_file`: for a long token it is an error.
    named = str(expand(value, "KAGGLE_API_TOKEN")) if value.startswith("~") else value
    if os.path.isabs(named) and not os.path.isfile(named):
        raise ConfigError("KAGGLE_API_TOKEN names a file that is not there. Correct or unset it.")
    if value and not os.path.isfile(named):
        return _checked(value, "KAGGLE_API_TOKEN")
    home = home_dir()
    places = [home / ".kaggle" / name for name in _TOKENS] if home else []
    for path in ([Path(named)] if value else []) + places:
        if os.path.isfile(path) and (token := _read(path)):
            return _checked(token, path)
    return None


_TOKENS = ("access_token", "access_token.txt")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"Could not read {path}: {why}. Allow reading it, or remove it and {_ANEW}."
        ) from error


def _checked(value: object, source: str | Path) -> str:
    """`value` if it can be a token, user or key, which have neither spaces nor accents: what
    goes into a header of HTTP must not end its line."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        return value
    raise ConfigError(f"What is in {source} cannot be a token, user or key of Kaggle's: {_ANEW}.")


_ANEW = "make a new one at https://www.kaggle.com/settings/api"


def _config_folder() -> Path | None:
    if named := os.environ.get("KAGGLE_CONFIG_DIR"):
        return expand(named, "KAGGLE_CONFIG_DIR")
    home = home_dir()
    folder = home / ".kaggle" if home else None
    if sys.platform.startswith("linux") and not (folder and os.path.exists(folder)):
        config = os.environ.get("XDG_CONFIG_HOME") or (home and home / ".config")
        return Path(config) / "kaggle" if config else None
    return folder
