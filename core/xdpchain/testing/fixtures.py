# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures for projects that test XDP programs: ``pytest_plugins = ["xdpchain.testing.fixtures"]``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .playground import Playground

__all__ = ["xdp_playground"]


@pytest.fixture
def xdp_playground() -> Iterator[Playground]:
    """An interface under test (``.ifname`` in ``.netns``) and a peer that sends to it; skips without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces and loads XDP programs")
    with Playground() as made:
        yield made
