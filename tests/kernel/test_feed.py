# SPDX-License-Identifier: Apache-2.0
"""The worker that watches the kernel does not run ahead of the screen that hears of it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from textual.message import Message

from tests.kernel.test_churn import churn
from xdpchain.testing.playground import Playground
from xdptui.workers import feed as feed_module
from xdptui.workers.feed import Feed, Surveyed


def test_it_looks_again_when_the_last_look_was_heard_of(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look that nobody hears of is kept, with the counters that it opened."""
    worker = SimpleNamespace(is_cancelled=False)
    monkeypatch.setattr(feed_module, "get_current_worker", lambda: worker)
    told: list[Surveyed] = []

    def post(message: Message) -> None:
        if isinstance(message, Surveyed):
            told.append(message)

    thread = threading.Thread(target=Feed(playground.netns, post, lambda: frozenset(), lambda: None).run)
    thread.start()
    try:
        with churn(playground):
            time.sleep(2.0)
        assert len(told) == 2  # the first, and that after it began to listen
        told[-1].heard.set()
        deadline = time.monotonic() + 20
        while len(told) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        worker.is_cancelled = True
        thread.join()
