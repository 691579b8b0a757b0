# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests with other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.interop.libxdp")

from tests.interop.editors import Ours, Theirs  # noqa: E402
from tests.interop.libxdp import Loader, xdp_loader  # noqa: E402
from xdpchain.testing.playground import Playground  # noqa: E402


@pytest.fixture(autouse=True)
def one_bpffs_for_both_editors(own_bpffs: Path) -> None:
    """One without anybody else's pins."""


@pytest.fixture
def loader(playground: Playground) -> Loader:
    """xdp-loader on the playground's interface."""
    if xdp_loader() is None:
        pytest.skip("xdp-loader is not installed (Debian: xdp-tools)")
    return Loader(playground)


@pytest.fixture
def ours(playground: Playground, samples: Path) -> Ours:
    return Ours(playground, samples)


@pytest.fixture
def theirs(loader: Loader, samples: Path) -> Theirs:
    return Theirs(loader, samples)
