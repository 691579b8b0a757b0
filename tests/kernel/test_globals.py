# SPDX-License-Identifier: Apache-2.0
"""Global variables set before loading: packets see them, and they survive every edit"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at, run_through
from tests.kernel.command_line import CommandLine
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.maps import open_map
from xdpchain.maps.globals import globals_of, with_globals
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, keep_maps, programs_of
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

UDP = frames.udp(frames.PEER, frames.NEAR, 53)


def given(samples: Path, *values: str) -> Component:
    source = programs_of(str(samples / "globals.o"))
    return with_globals(component_of(source), source, values)


def total(running: Running) -> object:
    with open_map(running, 0, ".data") as table:
        return next(table.entries()).value


def test_what_an_object_has(samples: Path) -> None:
    found = {
        variable.name: (variable.section, variable.text, variable.constant)
        for variable in globals_of(programs_of(str(samples / "globals.o")))
    }
    assert found == {
        "step": (".rodata", "3", True),
        "total": (".data", "1000", False),
        "seen": (".bss", "0", False),
    }


@pytest.mark.parametrize("linkage", LINKAGES)
def test_packets_meet_them(playground: Playground, samples: Path, linkage: Linkage) -> None:
    component = given(samples, "step=5", "total=0x10", "seen=7")
    assert [variable.text for variable in component.globals] == ["5", "16", "7"]
    running = change(playground, Chain((Slot.of(component),), linkage))
    playground.send([UDP] * 4)
    assert total(running) == 16 + 4 * 5
    assert look_at(playground).chain.slots[0].component.globals == component.globals  # type: ignore[union-attr]


def test_constants_are_given_again_when_the_component_is_loaded_anew(
    playground: Playground, samples: Path
) -> None:
    """Another linkage reads the object file again: the running component keeps its state and its
    constants.
    """
    running = change(playground, Chain((Slot.of(given(samples, "step=5", "total=0")),)))
    run_through(running, UDP)
    assert running.chain is not None
    running = change(playground, running.chain.relink(Linkage.TAILCALL))
    run_through(running, UDP)
    assert total(running) == 10
    assert running.chain is not None
    running = change(playground, running.chain.relink(Linkage.STATIC))
    run_through(running, UDP)
    assert total(running) == 15


def test_a_new_version_that_takes_over_the_data(playground: Playground, samples: Path) -> None:
    running = change(playground, Chain((Slot.of(given(samples)),)))
    run_through(running, UDP)
    assert running.chain is not None
    old = running.chain.slots[0].component
    with pytest.raises(InvalidInput, match="passes on its"):
        change(playground, running.chain.substitute(0, keep_maps(given(samples, "total=5"), old)))
    assert total(running) == 1003
    running = change(playground, running.chain.substitute(0, keep_maps(given(samples, "step=7"), old)))
    run_through(running, UDP)
    assert total(running) == 1010


def test_what_does_not_fit(samples: Path) -> None:
    with pytest.raises(NotFound, match="seen, total, step"):
        given(samples, "stop=1")
    with pytest.raises(InvalidInput, match="0 to 4294967295"):
        given(samples, "step=4294967296")
    with pytest.raises(InvalidInput, match="twice"):
        given(samples, "step=1", "step=2")


def test_on_the_command_line(cli: CommandLine, playground: Playground) -> None:
    cli.ok(
        "load",
        cli.interface,
        cli.sample("globals"),
        "--linkage",
        "static",
        "--global",
        "step=9",
        "--global",
        "total=1",
    )
    assert cli.status()["slots"][0]["globals"] == {"step": "9", "total": "1"}
    playground.send([UDP])
    assert cli.ok("map", cli.interface, "0", ".data").json["entries"] == [{"key": "total", "value": 10}]
    assert cli.ok("map", cli.interface, "0", ".rodata").json["entries"] == [{"key": "step", "value": 9}]
    cli.ok("replace", cli.interface, "0", cli.sample("globals"), "--global", "step=2")
    playground.send([UDP])
    assert cli.ok("map", cli.interface, "0", ".data").json["entries"] == [{"key": "total", "value": 12}]
    cli.ok("undo", cli.interface)
    playground.send([UDP])
    assert cli.ok("map", cli.interface, "0", ".data").json["entries"] == [{"key": "total", "value": 21}]
    assert cli("load", cli.interface, cli.sample("globals"), "--global", "nothing=2").code == 5


def test_programs_that_are_loaded_together_share_their_values(
    cli: CommandLine, playground: Playground, tmp_path: Path
) -> None:
    both = ("-n", "two_learn", "-n", "two_enforce", "--linkage", "static", "--global")
    refused = cli("load", cli.interface, cli.sample("two"), *both, "limit=1")
    assert refused.code == 5
    assert "none of two_learn, two_enforce has a global variable 'limit'" in refused.err
    cli.ok("load", cli.interface, cli.sample("two"), *both, "allowed=1")
    assert [slot["globals"] for slot in cli.status()["slots"]] == [{"allowed": "1"}] * 2, "shared"
    playground.send([UDP] * 3)
    assert cli.status()["verdict"]["XDP_DROP"]["packets"] == 2
    spec = tmp_path / "spec.toml"
    cli.ok("save", cli.interface, "-o", str(spec))
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(spec))
    playground.send([UDP] * 3)
    assert cli.status()["verdict"]["XDP_DROP"]["packets"] == 2, "a spec says the same"
    assert cli("plan", str(spec)).code == 0
    senseless = cli("load", cli.interface, cli.sample("globals"), "--global", "step")
    assert (senseless.code, "Write NAME=VALUE" in senseless.err) == (7, True)
