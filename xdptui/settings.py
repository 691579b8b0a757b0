# SPDX-License-Identifier: Apache-2.0
"""The terminal program's settings: the user's TOML file, whose comments and order are kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from xdpchain.frozen import frozen
from xdpchain.model.linkage import Linkage

__all__ = [
    "CHOICES",
    "Settings",
    "load_settings",
    "save_settings",
    "settings_path",
    "state_dir",
    "state_file",
]

CHOICES: dict[str, tuple[str, ...]] = {
    "theme": ("auto", "dark", "light", "16"),
    "linkage": ("auto", *map(str, Linkage)),
    "ascii": ("auto", "always", "never"),
    "numbers": ("pkt/s", "packets", "B/s", "bytes"),
    "sort": ("index", "name", "link", "mode", "owner", "chain", "traffic", "driver"),
}
"""The allowed values of settings that are words."""
RANGES: dict[str, tuple[float, float]] = {"confirm_seconds": (0, 86_400), "refresh_seconds": (0.2, 60)}
PANES = ("interfaces", "waterfall", "inspector")


@frozen
class Settings:
    """``confirm_seconds``: changes roll back unless confirmed within that time (0: only if the operator's own
    connection arrives there). ``linkage`` is for new chains, ``refresh_seconds`` the time between two
    readings of the counters.
    """

    theme: str = "auto"
    confirm_seconds: float = 0
    linkage: str = "auto"
    refresh_seconds: float = 1.0
    mouse: bool = True
    ascii: str = "auto"
    numbers: str = "pkt/s"
    sort: str = "index"
    sort_reversed: bool = False
    hidden_panes: tuple[str, ...] = ()


def settings_path(environ: Mapping[str, str]) -> Path | None:
    """The path of the file, None if there is no home directory."""
    base = environ.get("XDG_CONFIG_HOME") or (environ.get("HOME") and f"{environ['HOME']}/.config")
    return Path(base) / "xdptui" / "config.toml" if base else None


def state_dir(environ: Mapping[str, str]) -> Path:
    """The folder for recordings, captures and saved screens, which need not exist yet; without a home
    directory, the working directory.
    """
    base = environ.get("XDG_STATE_HOME") or (environ.get("HOME") and f"{environ['HOME']}/.local/state")
    return Path(base, "xdptui") if base else Path.cwd()


def state_file(environ: Mapping[str, str], name: str) -> Path:
    """A path in that folder, which is created. Raises OSError."""
    folder = state_dir(environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / name


def load_settings(path: Path | None) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and messages on what in the file is unusable; defaults apply for that."""
    if path is None:
        return Settings(), ()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings(), ()
    except (OSError, UnicodeDecodeError) as error:
        return Settings(), (f"{path} can't be read: {error}",)
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Settings(), (f"{path} can't be read: {error}",)
    found = Settings()
    trouble = []
    for name, value in document.items():
        try:
            found = replace(found, **{name: _checked(name, value)})
        except ValueError as error:
            trouble.append(f"{path}: {error}")
    return found, tuple(trouble)


def _checked(name: str, value: Any) -> Any:
    """The value if it is valid. Raises ValueError, whose text is for the user."""
    known = {member.name: member for member in fields(Settings)}
    if name not in known:
        raise ValueError(f"there is no setting {name!r}")
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ValueError(f"{name} is {value!r}, and must be one of {', '.join(CHOICES[name])}")
    elif name in RANGES:
        low, high = RANGES[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}, and must be a number from {low:g} to {high:g}")
    elif name == "hidden_panes":
        if not isinstance(value, list) or not all(pane in PANES for pane in value):
            raise ValueError(f"{name} is {value!r}, and must be a list of {', '.join(PANES)}")
        return tuple(value)
    elif not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, and must be true or false")
    return value


def save_settings(path: Path, before: Settings, after: Settings) -> None:
    """Write what differs to the file and leave the rest of it alone; creates the file if necessary. Raises
    OSError.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = tomlkit.document()
        document.add(tomlkit.comment("Settings of xdptui; docs/terminal.md describes them."))
    except (UnicodeDecodeError, TOMLKitError):
        return  # somebody is editing it: theirs to fix
    for member in fields(Settings):
        value = getattr(after, member.name)
        if value != getattr(before, member.name):
            document[member.name] = list(value) if isinstance(value, tuple) else value
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
        if path.exists():
            os.chmod(name, path.stat().st_mode & 0o7777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
