# SPDX-License-Identifier: Apache-2.0
"""Every command printed as advice is run as printed, and does what it says: on an interface with an odd name,
in a namespace other than ours.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import eventually, no_guardian_survives
from tests.kernel.command_line import CommandLine, Result
from tests.kernel.loaders import pinned_program
from tests.objects.compile import compile_text
from xdpchain.advice import Do, advise
from xdpchain.change.journal import store
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.sys import bpffs
from xdpchain.testing.playground import Playground
from xdptui.words.advice import WORDS, worded

ROOT = Path(__file__).parents[2]
INCLUDE = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]
NAME = "x;$'y\"z"
"""A semicolon, a dollar, a quote."""

SAID: set[Do] = set()
"""The kinds that were printed and followed."""

ELSEWHERE = {
    Do.GET_PERMISSION: "names no command; tests/kernel/test_truth.py",
    Do.FIND_OWNER: "names no command; tests/kernel/test_truth.py",
    Do.ASK_OWNER: "names no command",
    Do.READ_AGAIN: "names no command",
    Do.BUILD_FOR_FRAGMENTS: "names no command",
    Do.MEND: "names no command",
    Do.USE_STATIC: "names no command; tests/kernel/test_trace_refused.py",
    Do.DETACH_IDLE: "tests/kernel/test_truth.py runs it",
    Do.RELINK: "freplace only: test_a_route_on_a_freplace_chain",
    Do.SHADOW_AGAIN: "freplace only: tests/interop/test_shadow.py",
    Do.CONFIRM_OR_INSIST: "options, run in tests/kernel/test_own_connection.py",
    Do.REPLACE: "has places to fill in: tests/unit/test_advice.py parses it",
    Do.SET_IN_MAP: "has places to fill in: tests/unit/test_advice.py parses it",
    Do.SHOW_LINK: "tests/kernel/test_behind.py runs it",
    Do.MOUNT_SYSFS: "run below, in a mount namespace of its own",
    Do.LIST_NETNS: "run below",
    Do.SWITCH_JIT_ON: "run below, where it is on",
}


class Heeding(CommandLine):
    """The command line on the interface with the odd name, and a shell that follows its advice."""

    def text(self, *words: str) -> str:
        """What it prints for people."""
        return cli_in(self, self.playground.netns, *words).out

    @property
    def running(self) -> Running:
        return look(NAME, self.playground.netns)

    def advised(self, do: Do, result: Result) -> str:
        """The first command that the result advises, which must be of this kind."""
        told = result.err + result.out
        words = re.escape(WORDS[do])
        pattern = re.sub(r"\\\{\w+\\\}", "([^`\\n]+)", words)
        found = re.search(pattern, told, re.IGNORECASE)
        assert found is not None, (do, told)
        SAID.add(do)
        return found[1] if found.groups() else ""

    def shell(self, command: str, **fill: str) -> str:
        """Run it as printed, except for its placeholders (OBJ, FILE)."""
        for place, value in fill.items():
            command = re.sub(rf"\b{place}\b", value, command)
        wrapper = self.bin / "xdptui"
        if not wrapper.exists():
            wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m xdptui "$@"\n')
            wrapper.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}",
        }
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    bin: Path


@pytest.fixture
def cli(
    playground: Playground,
    capsys: pytest.CaptureFixture[str],
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Heeding]:
    monkeypatch.setenv(store.STATE, str(tmp_path / "state"))
    old = playground.links[0]
    words = ["ip", "-n", playground.netns, "link", "set"]
    # Kernels before 6.2 can't rename an interface that is up.
    for change in ([old.ifname, "down"], [old.ifname, "name", NAME], [NAME, "up"]):
        subprocess.run([*words, *change], check=True)
    made = Heeding(playground, capsys, samples)
    made.interface = NAME
    made.bin = tmp_path / "bin"
    made.bin.mkdir()
    with no_guardian_survives(playground):
        yield made


def slots(cli: Heeding) -> list[str]:
    return [slot.name for slot in cli.running.chain or ()]


def test_what_is_not_there(cli: Heeding) -> None:
    listed = cli.shell(cli.advised(Do.LIST_INTERFACES, cli("status", "nosuch")))
    assert NAME in listed
    assert cli.advised(Do.NEAR_INTERFACE, cli("status", f"{NAME}x")) == NAME
    option = cli.advised(Do.OTHER_NETNS, cli("status", cli.playground.peer_ifname))
    assert shlex.split(option) == ["--netns", cli.playground.peer_netns]
    left = Path("/run/netns") / f"xdptui-test-{os.getpid()}"
    left.touch()
    try:
        refused = cli_in(cli, left.name, "status")
        cli.shell(cli.advised(Do.REMOVE_NETNS_FILE, refused))
        assert not left.exists()
    finally:
        left.unlink(missing_ok=True)
    told = worded(advise(Do.LIST_NETNS))
    assert cli.playground.netns in cli.shell(re.findall("`(.*)`", told)[0])


def cli_in(cli: Heeding, netns: str, *words: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "xdptui", *words, "--netns", netns], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def test_loading_and_adopting(cli: Heeding, samples: Path) -> None:
    nothing = cli("account", NAME, "--count", "1")
    cli.shell(cli.advised(Do.LOAD, nothing), OBJ=str(samples / "firewall.o"))
    assert slots(cli) == ["xdp_firewall"]
    more = cli("adopt", NAME, str(samples / "monitor.o"))
    cli.shell(cli.advised(Do.ADD, more), OBJ=str(samples / "monitor.o"))
    assert sorted(slots(cli)) == ["xdp_firewall", "xdp_monitor"]
    cli.ok("unload", NAME, "--all")
    with pinned_program(samples / "counter.o") as pin:
        subprocess.run(
            ["nsenter", f"--net=/run/netns/{cli.playground.netns}", "ip", "link", "set", "dev", NAME,
             "xdpdrv", "pinned", str(pin)], check=True,
        )  # fmt: skip
        refused = cli("load", NAME, str(samples / "pass.o"))
        command = cli.advised(Do.ADOPT, refused)
        cli.shell(command, OBJ=f"{samples / 'counter.o'} --no-confirm")
        assert slots(cli) == ["xdp_counter"]
        assert f"`{command}`" in cli.ok("doctor", NAME).out or cli.running.chain is not None


def test_linkages(cli: Heeding, samples: Path) -> None:
    cli.ok("load", NAME, str(samples / "pass.o"), "--linkage", "static")
    refused = cli("relink", NAME, "--linkage", "freplace")
    if refused.code:  # if the kernel refuses it
        option = cli.advised(Do.CHOOSE_LINKAGE, refused).split(" or ")
        assert option == ["--linkage static", "--linkage tailcall"], "what works here"
        for one in option:
            cli("relink", NAME, *one.split())
    else:
        SAID.add(Do.CHOOSE_LINKAGE)
    cli("relink", NAME, "--linkage", "tailcall")
    assert cli.running.linkage is Linkage.TAILCALL
    cli.ok("load", NAME, str(samples / "drop.o"))
    hook = cli.running.hook
    assert hook is not None
    shutil.rmtree(bpffs.find() / "xdptui" / str(hook.prog_id))
    eventually(lambda: cli.running.emptied, "the arrays are empty")
    cli.shell(cli.advised(Do.LINK_ANEW, Result(0, cli.text("status", NAME), "")))
    assert not cli.running.emptied


def test_policies_and_counters(cli: Heeding, samples: Path) -> None:
    cli.ok("load", NAME, str(samples / "pass.o"), "--no-counters")
    cli.shell(cli.advised(Do.SWITCH_COUNTERS_ON, cli("account", NAME, "--count", "1")))
    assert cli.running.counters_map is not None
    refused = cli("set", NAME, "0", "--may", "PASS", "--otherwise", "drop")
    assert refused.code == 0
    lift = cli.advised(Do.LIFT_POLICY, cli("set", NAME, "--no-counters"))
    assert "--may any" in lift
    cli.shell(lift)


@pytest.mark.vm
def test_a_route_on_a_freplace_chain(cli: Heeding, samples: Path) -> None:
    cli.ok("load", NAME, str(samples / "pass.o"), str(samples / "drop.o"), "--linkage", "freplace")
    cli.ok("set", NAME, "0", "--may", "PASS")
    refused = cli("set", NAME, "0", "--route", "TX:1")
    cli.shell(cli.advised(Do.RELINK, refused))
    cli.ok("set", NAME, "0", "--route", "TX:1")


def test_maps_that_are_kept_or_pinned(cli: Heeding, tmp_path: Path) -> None:
    def built(name: str, entries: int) -> str:
        source = (
            "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
            f"struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, {entries}); __type(key, int);"
            '__type(value, int); } kept SEC(".maps");\n'
            'SEC("xdp") int one(struct xdp_md *c)'
            "{ int k = 0; return bpf_map_lookup_elem(&kept, &k) ? 1 : 2; }\n"
            'char _license[] SEC("license") = "GPL";\n'
        )
        path = tmp_path / name
        path.write_bytes(compile_text(source, *INCLUDE))
        return str(path)

    cli.ok("load", NAME, built("a.o", 8))
    refused = cli("replace", NAME, "0", built("b.o", 16))
    cli.ok("replace", NAME, "0", str(tmp_path / "b.o"), cli.advised(Do.START_WITH_FRESH_MAPS, refused))


def test_mtu_and_mode(cli: Heeding, samples: Path) -> None:
    peer, space = cli.playground.peer_ifname, cli.playground.peer_netns
    subprocess.run(["ip", "-n", space, "link", "set", peer, "mtu", "9000"], check=True)
    refused = cli("load", NAME, str(samples / "pass.o"))
    option = cli.advised(Do.CHOOSE_GENERIC, refused)
    cli.ok("load", NAME, str(samples / "pass.o"), *option.split())
    assert cli.running.mode is Mode.GENERIC
    cli.ok("unload", NAME, "--all")
    cli.shell(cli.advised(Do.LOWER_MTU, refused))
    cli.ok("load", NAME, str(samples / "pass.o"))
    assert cli.running.mode is Mode.NATIVE
    refused = cli("load", NAME, str(samples / "monitor.o"), "-m", "generic")
    cli.shell(cli.advised(Do.CHANGE_MODE, refused))
    assert cli.running.mode is Mode.GENERIC
    subprocess.run(["ip", "-n", cli.playground.netns, "link", "set", NAME, "down"], check=True)
    place = cli.running.interface
    cli.shell(re.findall("`(.*)`", worded(advise(Do.BRING_UP, on=place)))[0])
    SAID.add(Do.BRING_UP)
    assert cli.running.device.up


@pytest.mark.parametrize("decision", [Do.CONFIRM, Do.ROLL_BACK])
def test_changes_that_wait(cli: Heeding, samples: Path, decision: Do) -> None:
    cli.ok("load", NAME, str(samples / "pass.o"), "--confirm", "600")
    refused = cli("load", NAME, str(samples / "drop.o"))
    cli.shell(cli.advised(decision, refused))
    assert cli.running.pending is None
    assert slots(cli) == (["xdp_pass"] if decision is Do.CONFIRM else [])


def test_looking(cli: Heeding, samples: Path) -> None:
    cli.ok("load", NAME, str(samples / "pass.o"))
    for do in (Do.LOOK, Do.LOOK_AT_LOG):
        told = worded(advise(do, on=cli.running.interface))
        shown = cli.shell(re.findall("`(.*)`", told)[0])
        assert "xdp_pass" in shown
        SAID.add(do)
    cli.shell(re.findall("`(.*)`", worded(advise(Do.CLEAN)))[0])
    SAID.add(Do.CLEAN)
    if Path("/proc/sys/net/core/bpf_jit_enable").read_text().strip() == "1":  # so that it changes nothing
        cli.shell(re.findall("`(.*)`", worded(advise(Do.SWITCH_JIT_ON)))[0].split(",")[0])
    sysfs = re.findall("`(.*)`", worded(advise(Do.MOUNT_SYSFS)))[0]
    cli.shell(f"unshare --mount sh -c 'umount -l /sys && {sysfs} && test -d /sys/kernel'")


def test_files(cli: Heeding, samples: Path, tmp_path: Path) -> None:
    missing = cli("replay", str(tmp_path / "none"), "--json")
    command = cli.advised(Do.RECORD, missing)
    file = tmp_path / "recording"
    cli.shell(f"{command} --duration 0.3 --interval 0.1", FILE=str(file))
    assert file.exists()
    again = cli("record", str(file), "--duration", "0.3", "--interval", "0.1")
    option = cli.advised(Do.OVERWRITE, again)
    cli.ok("record", str(file), "--duration", "0.3", "--interval", "0.1", option)
    gone = tmp_path / "gone.o"
    gone.write_bytes((samples / "pass.o").read_bytes())
    cli.ok("load", NAME, str(gone))
    gone.unlink()
    refused = cli("save", NAME)
    option = cli.advised(Do.WRITE_OBJECTS, refused)
    cli.ok("save", NAME, *option.replace("DIR", str(tmp_path / "objects")).split())


def test_a_rollback_that_cant_be_armed() -> None:
    """It names the option to omit."""
    assert worded(advise(Do.GO_WITHOUT_CONFIRM)) == "Try without --confirm"
    SAID.add(Do.GO_WITHOUT_CONFIRM)


def test_every_kind_was_heeded_here_or_elsewhere(request: pytest.FixtureRequest) -> None:
    if not any("test_files" in item.name for item in request.session.items):
        pytest.skip("a selection was run")
    assert set(Do) - set(ELSEWHERE) - SAID - {Do.MOVE_PINNED_MAP} == set()
