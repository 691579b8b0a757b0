# SPDX-License-Identifier: Apache-2.0
"""libbpf keeps the callbacks of whoever opened it: it is opened once, however many threads start at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from xdpchain.sys.libbpf import shared_library


def test_threads_that_come_at_once_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Slow:
        def __init__(self) -> None:
            made.append(self)
            time.sleep(0.05)

    together = threading.Barrier(8)

    def first_use() -> object:
        together.wait()
        return shared_library.library()

    monkeypatch.setattr(shared_library, "_opened", cache(Slow))
    with ThreadPoolExecutor(8) as pool:
        found = {id(future.result()) for future in [pool.submit(first_use) for _ in range(8)]}
    assert (len(made), found) == (1, {id(made[0])})
