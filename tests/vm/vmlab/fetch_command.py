# SPDX-License-Identifier: Apache-2.0
"""`fetch-kernel`: download and unpack kernels, and print where they are."""

from __future__ import annotations

import argparse

from vmlab import packages
from vmlab.kernels import NAMES, fetch, names_of

__all__ = ["fetch_kernels"]


def fetch_kernels(arguments: list[str]) -> int:
    """Prints one line per kernel: name, release, image, folder of its modules, separated by tabs."""
    parser = argparse.ArgumentParser(
        prog="fetch-kernel",
        description="Unpack stock Debian kernels into the cache (nothing is installed); say where they are.",
    )
    parser.add_argument("kernel", nargs="+", help=f"{', '.join(NAMES)}, all, or suite:NAME")
    parser.add_argument("--refresh", action="store_true", help="look for a newer one of that name")
    options = parser.parse_args(arguments)
    packages.require()
    for name in names_of(options.kernel):
        kernel = fetch(name, refresh=options.refresh)
        print(kernel.name, kernel.release, kernel.image, kernel.modules, sep="\t")
    return 0
