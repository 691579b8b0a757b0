# SPDX-License-Identifier: Apache-2.0
"""Without root, and with each capability dropped in turn: what runs is shown as far as the kernel permits,
nothing is changed, and what is missing is named.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at
from tests.kernel.command_line import COMMAND
from tests.stress.children import call, drop, run_cli, without_root
from tests.stress.holdings import holdings
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.permissions import missing_capabilities
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground

SYSTEM, BPF, PERFMON, NET = "CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"
# What is dropped, and what is then missing: CAP_SYS_ADMIN substitutes for the two that were once part of it.
TAKEN: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((SYSTEM,), (SYSTEM,)),
    ((NET,), (NET,)),
    ((BPF,), ()),
    ((PERFMON,), ()),
    ((SYSTEM, BPF), (SYSTEM, BPF)),
    ((SYSTEM, PERFMON), (SYSTEM, PERFMON)),
    ((SYSTEM, BPF, PERFMON, NET), (SYSTEM, BPF, PERFMON, NET)),
]


def inside(playground: Playground, then: Callable[[], None]) -> Callable[[], None]:
    """Enter the namespace while permitted, then hide the names of the namespaces."""

    def prepare() -> None:
        with netns.opened(playground.netns) as fd:
            netns._enter(fd, playground.netns)
        then()

    return prepare


def commands(samples: Path, linkage: Linkage) -> dict[str, list[str]]:
    return {
        "load": ["load", "xdp0", str(samples / "mark.o"), "--linkage", str(linkage)],
        "load, any linkage": ["load", "xdp0", str(samples / "mark.o")],
        "unload": ["unload", "xdp0", "--all"],
        "plan": ["plan", "move", "xdp0", "0", "1"],
        "move": ["move", "xdp0", "0", "1"],
        "set": ["set", "xdp0", "0", "-A", "none"],
        "replace": ["replace", "xdp0", "xdp_counter", str(samples / "counter_v2.o")],
        "relink": ["relink", "xdp0", "--linkage", str(linkage)],
        "clean": ["clean", "xdp0", "--dry-run"],
    }


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize(("taken", "missing"), TAKEN, ids=lambda names: "+".join(names) or "nothing")
def test_without_a_capability(
    playground: Playground,
    samples: Path,
    own_bpffs: Path,
    linkage: Linkage,
    taken: tuple[str, ...],
    missing: tuple[str, ...],
) -> None:
    read_only(playground, samples, own_bpffs, linkage, lambda: drop(taken), missing)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_without_root(playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage) -> None:
    read_only(playground, samples, own_bpffs, linkage, without_root, (SYSTEM, BPF, PERFMON, NET))


def read_only(
    playground: Playground,
    samples: Path,
    own_bpffs: Path,
    linkage: Linkage,
    prepare: Callable[[], None],
    missing: tuple[str, ...],
) -> None:
    chain = Chain(linkage=linkage)
    for name in ("counter", "tailcalls"):
        chain = chain.add(Slot.of(load_component(str(samples / f"{name}.o"))))
    running = change(playground, chain)
    before = holdings(playground, own_bpffs).counts
    enter = inside(playground, prepare)

    def named() -> tuple[str, ...]:
        enter()
        return tuple(one.name for one in missing_capabilities())

    assert set(call(named)) == set(missing)
    status = run_cli("status", "xdp0", "--json", prepare=enter)
    assert status.code == 0, status.err
    (shown,) = json.loads(status.out)["interfaces"]
    assert shown["name"] == "xdp0"
    assert running.hook is not None
    assert str(running.hook.prog_id) in status.out, "what runs there is told by its id at least"
    for name, arguments in commands(samples, linkage).items():
        done = run_cli(*arguments, prepare=enter)
        assert "Traceback" not in done.err
        if not missing:
            assert done.code == (2 if name == "plan" else 0), (name, done.err)
            change(playground, Chain())
            change(playground, chain)
            continue
        if name == "plan" and SYSTEM not in missing:
            assert done.code == 2, "planning changes nothing, and what runs can be read"
            continue
        assert done.code == 3, (name, done)
        for capability in missing:
            assert capability in done.err, (name, done.err)
        assert look_at(playground).hook == running.hook
        assert look_at(playground).chain == running.chain
        assert holdings(playground, own_bpffs).counts == before


@pytest.mark.parametrize("taken", [(SYSTEM,), (NET,), (SYSTEM, BPF, PERFMON, NET)], ids="+".join)
@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_empty_hook_stays_empty(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage, taken: tuple[str, ...]
) -> None:
    """Nothing is attached that could not be managed afterwards."""
    before = holdings(playground, own_bpffs).counts
    done = run_cli(*commands(samples, linkage)["load"], prepare=inside(playground, lambda: drop(taken)))
    assert done.code == 3, done
    assert all(name in done.err for name in taken), done.err
    assert look_at(playground).hooks == ()
    assert holdings(playground, own_bpffs).counts == before


READERS = {"nothing": (), "CAP_BPF and CAP_NET_ADMIN": (BPF, NET)}


@pytest.mark.parametrize("held", READERS.values(), ids=READERS)
def test_another_user_is_told_what_is_not_seen(
    playground: Playground, samples: Path, own_bpffs: Path, held: tuple[str, ...]
) -> None:
    """setpriv(1): another uid, with only these capabilities."""
    running = change(playground, Chain().add(Slot.of(load_component(str(samples / "counter.o")))))
    own_bpffs.chmod(0o700)
    caps = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in held)])
    user = ("--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps", caps, "--ambient-caps", caps)

    def seen(*command: str) -> tuple[int, str]:
        done = subprocess.run(
            ("nsenter", f"--net=/run/netns/{playground.netns}", "setpriv", *user, *COMMAND, *command),
            cwd="/", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if "can't open" in done.stderr or "No module named" in done.stderr or done.returncode == 126:
            pytest.skip(f"another user can't run this Python: {done.stderr.strip()}")
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    code, text = seen("status", "--json")
    assert code == 0, text
    document = json.loads(text)
    assert running.hook is not None
    (shown,) = (interface for interface in document["interfaces"] if interface["name"] == "xdp0")
    assert (shown["owner"], shown["programs"][0]["id"]) == ("unknown", running.hook.prog_id)
    assert "CAP_SYS_ADMIN" in shown["note"]
    assert any("opening programs by id needs CAP_SYS_ADMIN" in one for one in document["unseen"])
    assert any("pending changes" in one for one in document["unseen"])
    code, text = seen("status", "xdp0", "-v")
    assert ("tcx: not permitted; needs CAP_NET_ADMIN" in text) == (NET not in held), text
    assert "not seen: chains" in text
    code, text = seen("save", "xdp0")
    assert (code, "what xdp0 runs can't be read" in text, "CAP_SYS_ADMIN" in text) == (3, True, True), text
    code, text = seen("export", "--once")
    assert (code, "xdp_interface_receive_packets_total" in text) == (0, True), text
    code, text = seen("maps", "xdp0")
    assert (code, "EPERM" in text) == (3, True), text
