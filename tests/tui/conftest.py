# SPDX-License-Identifier: Apache-2.0
"""Shared by the terminal's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.tui.driving import THREE, Driver, driving, run_chain
from xdpchain.testing.playground import Playground


@pytest_asyncio.fixture
async def driver(playground: Playground, samples: Path) -> AsyncIterator[Driver]:
    """The program on an interface that runs `THREE` slots."""
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname) as made:
        yield made


@pytest.fixture
def guarded(guarded: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    """The same, and no change here would cut a connection of whoever runs the tests."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    return guarded
