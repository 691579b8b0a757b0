# SPDX-License-Identifier: Apache-2.0
"""Packages of any Debian suite: downloaded and unpacked, never installed.

apt runs with its own sources, lists and download folder, so it needs no root and changes nothing on this
machine. The archive is the one in this machine's own sources; apt checks its signatures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import LabError

__all__ = ["Archive", "codename", "mirror", "unpack"]

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_INDEX = re.compile(r"^'(?P<base>[^']+?)/?/dists/(?P<suite>[^']+)/InRelease'")
_DEPENDENCY = re.compile(r"^\s*\|?(?:Pre)?Depends: <?(?P<package>[^<>\s]+)>?$", re.MULTILINE)
MIRROR_VARIABLE = "XDPTUI_DEBIAN_MIRROR"


def _run(
    command: Sequence[str | Path], cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise LabError(f"there is no {command[0]} here, and the lab needs it to fetch Debian's packages.")
    try:
        return subprocess.run(
            # Nothing may keep writing in a folder whose lock went with us.
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C", **environment},
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError("there is no setpriv here. Install the package util-linux.") from error


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}


def codename() -> str | None:
    """This machine's Debian suite, such as `bookworm`; None if it is not Debian."""
    release = _os_release()
    return release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None


def mirror() -> str:
    """The Debian archive from this machine's apt sources, without a trailing slash.

    `XDPTUI_DEBIAN_MIRROR` overrides it. Raises LabError if the sources name none.
    """
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return chosen.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="xdptui-lab.") as lists:
        (Path(lists) / "partial").mkdir()
        # Contacts no server: prints what an update would fetch, whatever the format of the sources.
        printed = _run(["apt-get", "-o", f"Dir::State::lists={lists}", "--print-uris", "update"])
    found = [match for match in map(_INDEX.match, printed.stdout.splitlines()) if match]
    network = [match for match in found if not match["base"].startswith("cdrom:")]
    for match in network:
        if match["base"].rsplit("/", 1)[-1] == "debian":
            return match["base"]
    own = codename()
    for match in network:
        if own and match["suite"] == own:
            return match["base"]
    why = printed.stderr.strip().splitlines()
    raise LabError(
        f"this machine's apt sources name no Debian archive{': ' + why[-1] if why else ''}. "
        f"Add one, or put its address into {MIRROR_VARIABLE}."
    )


def _keyring() -> Path:
    for keyring in _KEYRINGS:
        if keyring.exists():
            return keyring
    raise LabError("Debian's archive keys are missing. Install the package debian-archive-keyring.")


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    """What apt says went wrong, on one line."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))]
    errors = [line for line in lines if line.startswith("E:")] or lines
    return " ".join(line[2:].strip() for line in errors[:2]) or f"apt ended with {result.returncode}"


@dataclass(frozen=True, slots=True)
class Archive:
    """One or more suites of the archive, seen through an apt that keeps its files in `folder`."""

    folder: Path
    configuration: Path

    @classmethod
    def of(cls, suites: Sequence[str], folder: Path, *, beside_installed: bool = False) -> Archive:
        """Sets apt up in `folder` and reads the suites' package lists.

        `beside_installed`: packages installed on this machine count as installed; otherwise none do. Raises
        LabError if a suite is not available.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in ("lists/partial", "cache/archives/partial", "empty/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        base, keyring = mirror(), _keyring()
        sources = folder / "sources.list"
        sources.write_text("".join(f"deb [signed-by={keyring}] {base} {suite} main\n" for suite in suites))
        settings = {
            "Dir::Etc::sourcelist": str(sources),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": f"{folder}/lists",
            "Dir::State::extended_states": f"{folder}/extended_states",
            "Dir::Cache": f"{folder}/cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            # A suite that could not be read is an error, not a warning.
            "APT::Update::Error-Mode": "any",
            # The folder may be inaccessible to other users.
            "APT::Sandbox::User": "",
        }
        if not beside_installed:
            (folder / "status").touch()
            settings["Dir::State::status"] = str(folder / "status")
        configuration = folder / "apt.conf"
        configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
        archive = cls(folder, configuration)
        archive._apt("apt-get", "--quiet=2", "update")
        return archive

    def _apt(self, *command: str, cwd: Path | None = None) -> str:
        result = _run(command, cwd=cwd, APT_CONFIG=str(self.configuration))
        if result.returncode != 0:
            raise LabError(_complaint(result))
        return result.stdout

    def version(self, package: str, suite: str | None = None) -> str | None:
        """The version that the suites offer, such as `1:10.0.2+ds-2`; None if they lack the package."""
        options = [f"--target-release={suite}"] if suite else []
        policy = self._apt("apt-cache", *options, "policy", package)
        found = re.search(r"^\s*Candidate: (\S+)$", policy, re.MULTILINE)
        return found[1] if found and found[1] != "(none)" else None

    def dependencies(self, package: str) -> list[str]:
        """Names of the packages that `package` depends on, directly; the suites may lack them."""
        return _DEPENDENCY.findall(self._apt("apt-cache", "depends", "--important", package))

    def pretend_installed(self, packages: Iterable[str]) -> None:
        """Makes this apt believe that these packages are installed, so that it does not download them."""
        entry = "Package: {}\nStatus: install ok installed\nVersion: 9999:0\nArchitecture: all\n"
        (self.folder / "status").write_text("\n".join(entry.format(package) for package in sorted(packages)))

    def download(self, package: str, suite: str) -> list[Path]:
        """Downloads `package` of `suite` and its dependencies that are not installed. Returns the files.

        Resumes downloads that an earlier try left unfinished.
        """
        install = ("--yes", "--no-install-recommends", f"--target-release={suite}", "install", package)
        # Only with an empty download folder does apt list them all.
        listed = self._apt(
            "apt-get", "--print-uris", "-o", f"Dir::Cache::archives={self.folder}/empty", *install
        )
        names = re.findall(r"^'[^']+' (\S+\.deb) ", listed, re.MULTILINE)
        # Ignore the machine's package lock: nothing is installed.
        self._apt("apt-get", "--quiet=2", "--download-only", "-o", "Debug::NoLocking=true", *install)
        return [self.folder / "cache/archives" / name for name in names]


def unpack(packages: Sequence[Path], into: Path) -> None:
    """Unpacks package files into the folder `into`; runs none of their scripts."""
    for package in packages:
        result = _run(["dpkg-deb", "--extract", package, into])
        if result.returncode != 0:
            raise LabError(f"can't unpack {package}: {result.stderr.strip()}")
