# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels by name, fetched and unpacked into the cache.

The generic flavour, because Debian's cloud kernels have no 9p.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlab.archive import Archive, unpack
from vmlab.cache import Item
from vmlab.errors import LabError
from vmlab.image import plain_kernel

__all__ = ["NAMES", "Kernel", "fetch", "is_name", "names_of"]

_SUITES: dict[str, tuple[str, ...]] = {
    "5.10": ("bullseye",),
    "6.1": ("bookworm",),
    "6.12": ("trixie", "bookworm-backports"),
    "newest": ("trixie-backports",),
}
NAMES: tuple[str, ...] = tuple(_SUITES)
"""The kernels that the lab knows by name; `suite:NAME` means the kernel of any other suite."""

_METAPACKAGE = "linux-image-amd64"
_PART = re.compile(r"linux-(image|binary|modules|base)-")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel.

    `release` is what `uname -r` prints; `modules` the folder with its modules and their modules.dep;
    `modules_root` the folder above it, named by release; `image` the file to boot.
    """

    name: str
    suite: str
    release: str
    image: Path
    modules_root: Path

    @property
    def modules(self) -> Path:
        return self.modules_root / self.release


def is_name(word: str) -> bool:
    """Whether `word` names a kernel, or `all` of them."""
    return word == "all" or word in _SUITES or word.startswith("suite:")


def names_of(words: Sequence[str]) -> list[str]:
    """The kernels that `words` name, without duplicates, in the order given; `all` stands for every known
    one.

    Raises LabError for a word that names none.
    """
    names: list[str] = []
    for word in words:
        if not is_name(word):
            raise LabError(f"no kernel {word!r}: there are {', '.join(NAMES)}, all, and suite:NAME")
        names.extend(NAMES if word == "all" else [word])
    return list(dict.fromkeys(names))


def _suites_of(name: str) -> tuple[str, ...]:
    (name,) = names_of([name])
    return _SUITES.get(name) or (name.removeprefix("suite:"),)


def _cached(name: str, suite: str) -> Kernel | None:
    item = Item(suite)
    description = item.description()
    if not description:
        return None
    try:
        kernel = Kernel(
            name=name,
            suite=suite,
            release=description["release"],
            image=item.folder / description["image"],
            modules_root=item.folder / description["modules_root"],
        )
    except KeyError:
        return None
    return kernel if kernel.image.is_file() and (kernel.modules / "modules.dep").is_file() else None


def _surroundings(archive: Archive) -> set[str]:
    """What kernel packages depend on besides each other: installing a kernel needs it, booting one
    does not.
    """
    found: set[str] = set()
    parts: list[str] = []
    waiting = [_METAPACKAGE]
    while waiting:
        package = waiting.pop()
        if package not in parts:
            parts.append(package)
            dependencies = archive.dependencies(package)
            waiting += [name for name in dependencies if _PART.match(name)]
            found |= {name for name in dependencies if not _PART.match(name)}
    return found


def _unpack(item: Item, packages: list[Path], version: str) -> None:
    item.clear()
    unpack(packages, item.tree)
    found = sorted(item.tree.glob("lib/modules/*")) + sorted(item.tree.glob("usr/lib/modules/*"))
    if len(found) != 1:
        raise LabError(f"expected one kernel in {item.tree}, found {len(found)}")
    (modules,) = found
    release = modules.name
    images = [item.tree / "boot" / f"vmlinuz-{release}", modules / "vmlinuz"]
    image = next((path for path in images if path.is_file()), None)
    if image is None:
        raise LabError(f"the packages of {release} hold no kernel image")
    if plain := plain_kernel(image.read_bytes()):
        image = item.tree / "vmlinux"
        image.write_bytes(plain)
    # Some packages create the module index only when installed.
    base = modules.parent.parent.parent
    try:
        subprocess.run(
            ["depmod", "-b", base, release],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        )
    except FileNotFoundError as error:
        raise LabError("there is no depmod here. Install the package kmod.") from error
    except subprocess.CalledProcessError as error:
        raise LabError(f"depmod failed for {release}: {error.stderr.strip()}") from error
    item.publish(
        {
            "version": version,
            "release": release,
            "image": str(image.relative_to(item.folder)),
            "modules_root": str(modules.parent.relative_to(item.folder)),
        }
    )


def _fetch_from(name: str, suite: str, *, refresh: bool) -> Kernel:
    item = Item(suite)
    with item.lock(f"it fetches the kernel of {suite}"):
        cached = _cached(name, suite)
        if cached and not refresh:
            return cached
        print(f"fetching the kernel of Debian {suite} ...", end=" ", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            archive = Archive.of([suite], item.folder / "apt")
            version = archive.version(_METAPACKAGE)
            if version is None:
                raise LabError(f"it has no package {_METAPACKAGE}")
            if cached and (item.description() or {}).get("version") == version:
                print("unchanged", file=sys.stderr)
                shutil.rmtree(archive.folder)
                return cached
            archive.pretend_installed(_surroundings(archive))
            packages = archive.download(_METAPACKAGE, suite)
            _unpack(item, packages, version)
            shutil.rmtree(item.folder / "apt")
        except LabError as error:
            print("failed", file=sys.stderr)
            raise LabError(f"no kernel of suite {suite} to be had: {error}") from error
        except OSError as error:
            print("failed", file=sys.stderr)
            raise LabError(f"no kernel of suite {suite} to be had: {error}") from error
        kernel = _cached(name, suite)
        if kernel is None:
            raise LabError(
                f"no kernel of suite {suite} to be had: what was unpacked in {item.folder} is not complete"
            )
        print(f"{kernel.release}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return kernel


def fetch(name: str, *, refresh: bool = False) -> Kernel:
    """The kernel called `name`, from the cache, otherwise from the first of its suites that has it.

    `refresh`: look for a newer one of that name. Raises LabError if no suite has it.
    """
    suites = _suites_of(name)
    if not refresh:
        for suite in suites:
            if cached := _cached(name, suite):
                return cached
    refused: list[str] = []
    for suite in suites:
        try:
            kernel = _fetch_from(name, suite, refresh=refresh)
        except LabError as error:
            refused.append(str(error))
            continue
        if name[0].isdigit() and not kernel.release.startswith((f"{name}.", f"{name}-")):
            refused.append(f"suite {suite} has {kernel.release}, not {name}")
            continue
        return kernel
    raise LabError("\n".join(refused))
