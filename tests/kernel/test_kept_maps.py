# SPDX-License-Identifier: Apache-2.0
"""Kept maps of unloaded slots: an undo finds them again; they are listed, limited, and swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.test_map_entries import DNS, held
from tests.kernel.test_state import eventually_gone
from xdpchain.linkage import kept_maps as keeping
from xdpchain.linkage.kept_maps import KeptMap, kept_maps, overdue
from xdpchain.model.chain import Chain
from xdpchain.sys import bpf, bpffs
from xdpchain.testing.playground import Playground


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Ignore those of earlier tests."""
    keeping.forget_kept(kept_maps())


def loaded(cli: CommandLine, playground: Playground, linkage: str = "static") -> dict[str, int]:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--linkage", linkage)
    cli.ok("map", cli.interface, "xdp_firewall", "blocked", "--set", f"{DNS}=7", "--yes")
    chain = look_at(playground).chain
    assert chain is not None
    return {ref.name: ref.id for ref in chain.slots[0].component.maps}


@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_undo_finds_them_again(cli: CommandLine, playground: Playground, linkage: str) -> None:
    maps = loaded(cli, playground, linkage)
    planned = cli("plan", "unload", cli.interface, "xdp_firewall", "--keep-maps")
    assert "pin the maps of removed slots" in planned.out
    assert "are lost" not in planned.out + planned.err
    assert "blocked (hash, 1 entry)" in cli("plan", "unload", cli.interface, "xdp_firewall").err
    assert kept_maps() == ()
    cli.ok("unload", cli.interface, "xdp_firewall", "--keep-maps")
    assert {bpf_map.map_id for bpf_map in kept_maps()} == {maps["blocked"], maps["drops"]}
    kept = cli.ok("status").json["kept_maps"]
    assert {(one["name"], one["id"]) for one in kept} == {(name, maps[name]) for name in ("blocked", "drops")}
    assert f"blocked ({maps['blocked']})" in cli("status").out
    undone = cli("undo", cli.interface, "--json")
    assert undone.code == 0
    assert "contents of its map" not in str(undone.json["plan"])
    assert held(playground) == {"{port=53, protocol=17, unused=0}": "7"}
    # The chain has them again: nothing is kept any more.
    assert kept_maps() == ()
    cli.ok("unload", cli.interface, "--all", "--keep-maps")
    assert len(kept_maps()) == 3
    shown = cli("clean", "--kept", "--dry-run").out
    assert shown.count("would be released") == 3
    cli.ok("clean", "--kept")
    assert kept_maps() == ()
    eventually_gone(set(maps.values()))
    assert "without the contents of its maps blocked, drops" in str(
        cli.ok("undo", cli.interface).json["plan"]["warnings"]
    )


def test_a_change_that_fails_keeps_none(
    cli: CommandLine, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(cli, playground)
    monkeypatch.setattr("xdpchain.change.transaction.swap", _fails)
    assert cli("unload", cli.interface, "xdp_firewall", "--keep-maps").code != 0
    assert kept_maps() == ()
    assert held(playground) == {"{port=53, protocol=17, unused=0}": "7"}


def _fails(*_: object) -> None:
    raise bpf.refusal(bpf.BpfError(16, bpf.Command.PROG_LOAD), "the swap failed")


def test_they_are_bounded(
    cli: CommandLine, playground: Playground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded(cli, playground)
    cli.ok("unload", cli.interface, "--all", "--keep-maps")
    now = kept_maps()
    # As if a week had passed, and as if there were too many.
    monkeypatch.setattr(keeping, "MOST", 2)
    assert overdue() == now[2:]
    with bpffs.open_below(*keeping.PLACE) as directory, bpf.map_by_id(now[0].map_id) as fd:
        directory.pin(KeptMap(now[0].map_id, 1, 7, 8).pin, fd)
        directory.pin("not-ours", fd)
    monkeypatch.setattr(keeping, "MOST", 64)
    monkeypatch.setattr(keeping, "LONGEST", keeping.boot_clock() - 2)
    assert overdue() == (KeptMap(now[0].map_id, 1, 7, 8),)
    cli.ok("load", cli.interface, cli.sample("pass"), "--linkage", "static")
    assert kept_maps() == now
    with bpffs.open_below(*keeping.PLACE) as directory:
        assert "not-ours" in directory.names(), "what nobody here made is left alone"
        directory.unlink("not-ours")
    change(playground, Chain())
