# SPDX-License-Identifier: Apache-2.0
"""An object that is put on many interfaces is loaded once; each interface still has maps of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from xdpchain.linkage import linkable_slots, loaded_elsewhere
from xdpchain.linkage.loaded_elsewhere import PLAIN, new_map
from xdpchain.maps.globals import with_globals
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.objects.objfile import ObjectFile
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the components that libbpf loads."""
    names: list[str] = []
    loaded_elsewhere._loads.cache_clear()
    compile_component = linkable_slots.compile_component

    def compiled(component, *arguments, **options):  # type: ignore[no-untyped-def]
        names.append(component.name)
        return compile_component(component, *arguments, **options)

    monkeypatch.setattr(linkable_slots, "compile_component", compiled)
    return names


def maps_of(running: Running) -> dict[str, tuple[bpf.MapInfo, bytes, bool, bytes]]:
    """By name: the shape, the BTF, whether it is frozen, and a data section's contents."""
    found = {}
    for ref in (ref for slot in running.chain or () for ref in slot.component.maps):
        with bpf.map_by_id(ref.id) as fd:
            info = bpf.map_info(fd)
            content = bpf.map_lookup(fd, bytes(4), info.value_size) if ref.name.startswith(".") else b""
            types = bpf.btf_raw(info.btf_id) if info.btf_id else b""
            found[ref.name] = info._replace(id=0, btf_id=0), types, bpf.map_frozen(fd), content
    return found


def ids_of(running: Running) -> set[int]:
    return {ref.id for slot in running.chain or () for ref in slot.component.maps}


@pytest.mark.parametrize(
    "name", ["firewall", "globals", "ratelimit", "monitor", "printer", "mapinmap", "tailcalls"]
)
def test_its_maps_are_as_libbpf_makes_them(root: None, samples: Path, loaded: list[str], name: str) -> None:
    with Playground(links=2) as playground:
        first, second = (change(playground, chain_of(samples, name), link) for link in (0, 1))
        assert maps_of(first) == maps_of(second) != {}
        assert not ids_of(first) & ids_of(second)
        # What these maps hold is of each interface, and is known to libbpf only.
        assert len(loaded) == (2 if name in ("mapinmap", "tailcalls") else 1)


@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_each_type_of_map_can_be_made_anew(root: None, kind: bpf.MapType) -> None:
    key = 0 if kind in (bpf.MapType.QUEUE, bpf.MapType.STACK, bpf.MapType.RINGBUF) else 4
    value = 0 if kind is bpf.MapType.RINGBUF else 4
    flags = 1 if kind is bpf.MapType.LPM_TRIE else 0  # BPF_F_NO_PREALLOC
    key += 4 * (kind is bpf.MapType.LPM_TRIE)
    entries = 1 if kind is bpf.MapType.CPUMAP else 4096
    with bpf.map_create(kind, key, value, entries, name="some_map", flags=flags) as fd:
        new = new_map("some_map", fd)
        assert new is not None
        with new.create(bpf.Fd(-1)) as other:
            infos = [bpf.map_info(each)._replace(id=0) for each in (fd, other)]
    assert infos[0] == infos[1]


def test_an_interface_never_has_the_same_load_twice(root: None, samples: Path, loaded: list[str]) -> None:
    with Playground(links=2) as playground:
        one = chain_of(samples, "firewall")
        ids = []
        for link, chain in (
            (0, one),
            (0, Chain()),
            (0, one),
            (1, one.add(replace(one.slots[0], key="twin"))),
        ):
            running = change(playground, chain, link)
            ids += [(link, slot.id) for slot in running.chain or ()]
        assert len(set(ids)) == len(ids) == 4
        assert len(loaded) == 3


def test_what_was_set_at_the_load_is_not_mistaken(root: None, samples: Path, loaded: list[str]) -> None:
    path = samples / "globals.o"
    source = ObjectFile.open(path)
    component = load_component(str(path))
    variable = next(variable for variable in source.variables if variable.section == ".rodata")
    with Playground(links=2) as playground:
        contents = []
        for link, value in ((0, 3), (1, 4)):
            given = with_globals(component, source, [f"{variable.name}={value}"])
            running = change(playground, Chain().add(Slot.of(given)), link)
            contents.append(maps_of(running)[".rodata"][3])
        assert contents[0] != contents[1]
        assert len(loaded) == 2
