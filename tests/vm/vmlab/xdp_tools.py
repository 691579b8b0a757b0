# SPDX-License-Identifier: Apache-2.0
"""xdp-tools of another Debian suite, unpacked into the cache with the libraries they need."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmlab.archive import Archive, unpack
from vmlab.cache import Item
from vmlab.errors import LabError

__all__ = ["XdpTools", "fetch"]

_PACKAGE = "xdp-tools"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True)
class XdpTools:
    """Unpacked tools: their package's version, and the folder that is their root."""

    version: str
    tree: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that tests and libxdp need to use them: otherwise libxdp would load this machine's
        dispatcher."""
        return {
            "XDPTUI_XDP_TOOLS": str(self.tree),
            "LIBXDP_OBJECT_PATH": str(self.tree / _LIBRARIES / "bpf"),
        }


def _cached(item: Item) -> XdpTools | None:
    description = item.description()
    needed = (item.tree / "usr/sbin/xdp-loader", item.tree / _LIBRARIES / "ld-linux-x86-64.so.2")
    if description is None or not all(path.exists() for path in needed):
        return None
    return XdpTools(description["version"], item.tree)


def fetch(suite: str) -> XdpTools:
    """Fetch a suite's tools into the cache. Raises LabError if they are not available."""
    item = Item(f"xdp-tools-{suite}")
    with item.lock(f"it fetches xdp-tools of {suite}"):
        if cached := _cached(item):
            return cached
        print(f"fetching xdp-tools of {suite} ...", end=" ", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            archive = Archive.of([suite], item.folder / "apt")
            version = archive.version(_PACKAGE) or "?"
            packages = archive.download(_PACKAGE, suite)
            item.clear()
            unpack(packages, item.tree)
            # Before trixie, some packages have their libraries in /lib, which is /usr/lib once installed.
            if (unmerged := item.tree / "lib").is_dir():
                shutil.copytree(unmerged, item.tree / "usr/lib", symlinks=True, dirs_exist_ok=True)
            item.publish({"version": version})
            shutil.rmtree(item.folder / "apt")
            tools = _cached(item)
            if tools is None:
                item.clear()
                raise LabError(f"xdp-tools {version} lack xdp-loader, or what loads its libraries")
        except (LabError, OSError) as error:
            print("failed", file=sys.stderr)
            raise LabError(f"no xdp-tools of {suite} to be had: {error}") from error
        print(f"{tools.version}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return tools
