# SPDX-License-Identifier: Apache-2.0
"""Copies of maps of all kinds: they have the same elements, and changes to a copy stay in it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from xdpchain.sys import bpf, clones
from xdpchain.sys.clones import MapTooLarge, clone_map
from xdpchain.sys.cpus import possible_cpus

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="maps take root")

T = bpf.MapType
NO_PREALLOC = 1
MANY = 3000


@contextmanager
def made(kind: T, key: int, value: int, entries: int, flags: int = 0) -> Iterator[bpf.Fd]:
    with bpf.map_create(kind, key, value, entries, name="tried", flags=flags) as fd:
        yield fd


def content(fd: bpf.Fd) -> dict[bytes, bytes]:
    info = bpf.map_info(fd)
    found = {}
    for key in bpf.map_keys(fd, info.key_size):
        try:
            found[key] = bpf.map_lookup(fd, key, clones._value_size(info))
        except bpf.BpfError as error:
            if error.errno != errno.ENOENT:
                raise
    return found


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (T.HASH, 0),
        (T.HASH, NO_PREALLOC),
        (T.ARRAY, 0),
        (T.LRU_HASH, 0),
        (T.PERCPU_HASH, 0),
        (T.PERCPU_ARRAY, 0),
    ],
)
def test_elements_go_along(kind: T, flags: int, at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not at_once:

        def refuse(*_: object) -> None:
            raise bpf.BpfError(errno.EINVAL, bpf.Command.MAP_LOOKUP_BATCH)

        monkeypatch.setattr(bpf, "map_copy_batch", refuse)
    monkeypatch.setattr(clones, "BATCH_BYTES", 1 << 13)  # many batches
    size = 12 * (possible_cpus() if kind in clones.PER_CPU else 1)
    with made(kind, 4, 12, MANY * 2, flags) as fd:
        stride = clones._value_size(bpf.map_info(fd))
        for n in range(MANY):
            bpf.map_update(
                fd, struct.pack("<I", n), struct.pack("<III", n, ~n & 0xFFFFFFFF, 7).ljust(stride, b"\1")
            )
        copy, whole = clone_map(fd)
        with copy:
            assert whole
            assert content(copy) == content(fd)
            assert len(content(copy)) >= MANY
            before = content(fd)
            bpf.map_update(copy, struct.pack("<I", 5), bytes(max(size, stride)))
            assert content(fd) == before


def test_a_trie_goes_along() -> None:
    with made(T.LPM_TRIE, 8, 4, 100, NO_PREALLOC) as fd:
        for n in range(50):
            bpf.map_update(fd, struct.pack("<IBBBB", 24, 10, 0, n, 0), struct.pack("<I", n))
        copy, whole = clone_map(fd)
        with copy:
            assert whole
            assert content(copy) == content(fd)
            assert len(content(fd)) == 50


def test_more_elements_than_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clones, "LIMIT", 100)
    monkeypatch.setattr(clones, "BATCH_BYTES", 50 * 8)
    with made(T.ARRAY, 4, 4, 400) as fd:
        copy, whole = clone_map(fd)
        copy.close()
        assert not whole


def test_a_map_that_changes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied elements are replaced by others, until the copy has no room for those."""
    original = bpf.map_copy_batch
    monkeypatch.setattr(clones, "BATCH_BYTES", 8 * 64)
    with made(T.HASH, 4, 4, 256) as fd:
        for n in range(256):
            bpf.map_update(fd, struct.pack("<I", n), bytes(4))

        def meanwhile(source: bpf.Fd, copy: bpf.Fd, *rest: object) -> object:
            answer = original(source, copy, *rest)  # type: ignore[arg-type]
            for n, key in enumerate(content(copy)):
                with contextlib.suppress(bpf.BpfError):
                    bpf.map_delete(source, key)
                    bpf.map_update(source, struct.pack("<I", 1000 + n + random.randrange(1 << 20)), bytes(4))
            return answer

        monkeypatch.setattr(bpf, "map_copy_batch", meanwhile)
        copy, _ = clone_map(fd)
        with copy:
            assert len(content(copy)) > 64


def test_what_can_not_be_read_is_empty_and_said_to_be() -> None:
    with made(T.QUEUE, 0, 4, 10) as fd:
        bpf.map_update(fd, b"", struct.pack("<I", 1))
        copy, whole = clone_map(fd)
        with copy:
            assert not whole
            assert bpf.map_info(copy).type == T.QUEUE


@pytest.mark.parametrize("kind", [T.PROG_ARRAY, T.PERF_EVENT_ARRAY])
def test_references_that_a_program_acts_through_are_not_copied(kind: T) -> None:
    """A program called through one works on the running maps; an event goes to a real reader."""
    with made(kind, 4, 4, 4) as fd:
        copy, _ = clone_map(fd)
        with copy:
            assert bpf.map_info(copy).id != bpf.map_info(fd).id


def test_too_large() -> None:
    with made(T.HASH, 4, 1024, 1 << 18, NO_PREALLOC) as fd, pytest.raises(MapTooLarge):
        clone_map(fd)
