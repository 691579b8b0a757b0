# SPDX-License-Identifier: Apache-2.0
"""Bad input to the engine and the command line: a clear error of the documented kind, nothing changed,
nothing left.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import own_mounts
from tests.kernel.chains import LINKAGES, change, look_at
from tests.objects.compile import compile_text
from tests.stress.children import run_cli
from tests.stress.holdings import Holdings, holdings
from tests.stress.scale import scaled
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import (
    InvalidInput,
    KernelRefused,
    LinkRefused,
    NotFound,
    Unsupported,
    XdpChainError,
)
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground
from xdptui import outcome
from xdptui.cli import main

MULTIARCH = f"/usr/include/{platform.machine()}-linux-gnu"
HEADER = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar l[] SEC("license") = "GPL";\n'
OTHERS = {
    "a kprobe": 'SEC("kprobe/do_nothing") int probe(void *ctx) { return 0; }',
    "a classifier": 'SEC("tc") int classify(struct __sk_buff *skb) { return 0; }',
    "a tracepoint": 'SEC("tracepoint/sched/sched_switch") int trace(void *ctx) { return 0; }',
    "an XDP program for a cpumap": 'SEC("xdp/cpumap") int onto(struct xdp_md *ctx) { return 2; }',
    "no program at all": "int nothing;",
}
ELSEWHERE = HEADER + (
    'SEC("xdp") int elsewhere(struct xdp_md *ctx) { return *(volatile int *)8 ? XDP_DROP : XDP_PASS; }'
)


@dataclass(frozen=True)
class Bad:
    """A file that can't become a component: what the engine raises, what the command line returns, and a word
    of the message.
    """

    content: Callable[[Path], bytes]
    error: type[XdpChainError]
    code: int
    word: str


def sample(name: str) -> Callable[[Path], bytes]:
    return lambda samples: (samples / f"{name}.o").read_bytes()


def source(text: str, target: str = "bpf") -> Callable[[Path], bytes]:
    return lambda samples: compile_text(text, "-idirafter", MULTIARCH, target=target)


def this_interpreter(samples: Path) -> bytes:
    return Path(sys.executable).resolve().read_bytes()


GOOD = 'SEC("xdp") int good(struct xdp_md *ctx) { return XDP_PASS; }'
BAD: dict[str, Bad] = {
    "empty": Bad(lambda samples: b"", InvalidInput, 7, "empty"),
    "text": Bad(lambda samples: b"#!/bin/sh\n" * 100, InvalidInput, 7, "ELF"),
    "zeroes": Bad(lambda samples: bytes(4096), InvalidInput, 7, "ELF"),
    "a magic number and no more": Bad(lambda samples: b"\x7fELF", InvalidInput, 7, ""),
    "for another processor": Bad(this_interpreter, InvalidInput, 7, ""),
    "of the other byte order": Bad(source(HEADER + GOOD, "bpfeb"), InvalidInput, 7, "endian"),
    "an archive": Bad(lambda samples: b"!<arch>\n" + bytes(60), InvalidInput, 7, "ELF"),
    **{name: Bad(source(HEADER + text), InvalidInput, 7, "") for name, text in OTHERS.items()},
    "refused by the verifier": Bad(sample("refused"), KernelRefused, 1, "invalid access to packet"),
    "reading where nothing is": Bad(source(ELSEWHERE), KernelRefused, 1, "invalid mem access"),
}  # fmt: skip


@dataclass
class Scene:
    """An interface with a chain on it (or none), and a way to check that it did not change."""

    playground: Playground
    bpffs: Path
    linkage: Linkage

    def state(self) -> tuple[object, ...]:
        running = look_at(self.playground)
        held = holdings(self.playground, self.bpffs)
        return running.hooks, running.chain, held.programs, held.maps, held.links, held.pins

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        before, descriptors = self.state(), self.held().descriptors
        yield
        assert self.state() == before
        assert self.held().descriptors == descriptors

    def held(self) -> Holdings:
        return holdings(self.playground, self.bpffs)

    @property
    def where(self) -> list[str]:
        return [self.playground.ifname, "--netns", self.playground.netns]

    def load(self, path: Path | str, *options: str) -> list[str]:
        return ["load", *self.where, str(path), "--linkage", str(self.linkage), *options]


@pytest.fixture(params=["on an empty hook", "beside a chain"])
def scene(
    request: pytest.FixtureRequest, playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage
) -> Scene:
    change(playground, Chain(linkage=linkage).add(slot(samples, "pass")))
    if request.param == "on an empty hook":
        change(playground, Chain())
    return Scene(playground, own_bpffs, linkage)


def slot(samples: Path, name: str) -> Slot:
    return Slot.of(load_component(str(samples / f"{name}.o")))


def adopt(scene: Scene, path: Path | str) -> None:
    """What the engine does with an object file that is to join the chain."""
    new = Slot.of(load_component(str(path)))
    running = look_at(scene.playground)
    apply(make_plan(running, (running.chain or Chain()).relink(scene.linkage).add(new)))


def explained(error: XdpChainError) -> bool:
    return bool(error.what.strip()) and bool(error.why.strip() or error.todo)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The command line's exit code, and its message."""
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "internal error" not in said
    assert code == 0 or said.startswith("xdptui: ")
    return code, said


@pytest.mark.parametrize("linkage", LINKAGES)
def test_files_that_are_no_components(
    scene: Scene, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, bad in BAD.items():
        path = tmp_path / "bad.o"
        path.write_bytes(bad.content(samples))
        with scene.unchanged():
            with pytest.raises(bad.error) as caught:
                adopt(scene, path)
            assert bad.word in str(caught.value), name
            assert explained(caught.value), name
            assert caught.value.exit_code == bad.code
            code, said = command(capsys, *scene.load(path))
            assert (code, bad.word in said) == (bad.code, True), (name, said)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(1800)
def test_a_truncated_object_at_every_length(scene: Scene, samples: Path, tmp_path: Path) -> None:
    step, heads = scaled(97, 1, 4001), range(0, 70, scaled(1, 1, 9))
    for name in ("firewall", "tailcalls", "globals"):
        whole = (samples / f"{name}.o").read_bytes()
        path = tmp_path / f"{name}.o"
        with scene.unchanged():
            for length in {*range(0, len(whole), step), *heads, len(whole) - 1}:
                path.write_bytes(whole[:length])
                with pytest.raises(InvalidInput) as caught:
                    adopt(scene, path)
                assert explained(caught.value), length


@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_object_without_types(scene: Scene, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no run config. Static and tailcall linkage accept it all the same; the kernel replaces functions
    only with programs that have types.
    """
    path = samples / "nobtf.o"
    if scene.linkage is not Linkage.FREPLACE:
        adopt(scene, path)
        assert "xdp_nobtf" in [slot.name for slot in look_at(scene.playground).chain or ()]
        return
    with scene.unchanged():
        with pytest.raises((LinkRefused, KernelRefused), match="BTF") as caught:
            adopt(scene, path)
        code, said = command(capsys, *scene.load(path))
        assert code == caught.value.exit_code
        assert "BTF" in said


@pytest.mark.parametrize("linkage", LINKAGES)
def test_names_that_do_not_exist(scene: Scene, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(samples / "pass.o")
    with scene.unchanged():
        for missing in ("nope0", "x" * 40, "", "xdp0\n", "../etc"):
            with pytest.raises(NotFound):
                look(missing, scene.playground.netns)
            code, said = command(capsys, "load", missing, good, "--netns", scene.playground.netns)
            assert code == 5, said
        with pytest.raises(NotFound):
            look("xdp0", "no-such-namespace")
        with pytest.raises(NotFound):
            load_component(good, name="nobody")
        with pytest.raises(NotFound):
            load_component(good + ".gone")
        running = look_at(scene.playground)
        with pytest.raises(NotFound):
            (running.chain or Chain()).retune(9, actions=ActionSet.parse("P"))
        for arguments in (
            ["load", "xdp0", good, "--netns", "no-such-namespace"],
            scene.load(good, "-n", "nobody"),
            scene.load(good + ".gone"),
            ["set", *scene.where, "nobody", "-A", "P"],
            ["unload", *scene.where, "7"],
        ):
            code, said = command(capsys, *arguments)
            assert code == 5, said


@pytest.mark.parametrize("linkage", LINKAGES)
def test_one_slot_too_many(
    playground: Playground,
    samples: Path,
    own_bpffs: Path,
    linkage: Linkage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chain = Chain(linkage=linkage)
    for index in range(linkage.facts.most_slots):
        chain = chain.add(
            Slot.of(load_component(str(samples / "scripted.o"), name=f"scripted_{index}", instance="one"))
        )
    said_so = f"{linkage.facts.most_slots + 1} slots"
    running = change(playground, chain)
    scene = Scene(playground, own_bpffs, linkage)
    with scene.unchanged():
        assert running.chain is not None
        with pytest.raises(InvalidInput, match=said_so):
            make_plan(running, running.chain.add(slot(samples, "pass")))
        code, said = command(capsys, *scene.load(samples / "pass.o"))
        assert code == 7
        assert said_so in said


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("step", ["compare with", "load and link", "swap it in"])
def test_an_interface_that_vanishes_halfway(
    scene: Scene,
    samples: Path,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = scene.playground
    other = Playground()
    with other:
        # Its chain must not be affected by what happens to the first.
        change(other, Chain(linkage=scene.linkage).add(slot(samples, "counter")))
        beside = look_at(other)
        held = holdings(other, scene.bpffs)

        def vanish(said: str) -> None:
            if said.startswith(step):
                subprocess.run(["ip", "-n", where.netns, "link", "del", where.ifname], check=True)

        running = look_at(where)
        plan = make_plan(
            running, (running.chain or Chain()).relink(scene.linkage).add(slot(samples, "tailcalls"))
        )
        with pytest.raises(NotFound) as caught:
            apply(plan, progress=vanish)
        assert explained(caught.value)
        with pytest.raises(NotFound):
            look(where.ifname, where.netns)
        # The rest (the pins of its old chain) goes with the next change, on any interface.
        assert beside.chain is not None
        change(other, beside.chain.retune(0, actions=ActionSet.parse("PD")))
        change(other, beside.chain)
        now = holdings(other, scene.bpffs)
        assert now.counts == held.counts or scene.linkage is not Linkage.STATIC
        assert now.counts["programs"] <= held.counts["programs"]
        change(other, Chain())
        assert holdings(other, scene.bpffs).counts["programs"] == 0
        assert holdings(other, scene.bpffs).pins == ()

        # The same from the command line.
        change(other, Chain(linkage=scene.linkage).add(slot(samples, "counter")))

        def vanish_too(talk: outcome.Talk, said: str) -> None:
            if said.startswith(step):
                subprocess.run(["ip", "-n", other.netns, "link", "del", other.ifname], check=True)

        monkeypatch.setattr(outcome.Talk, "step", vanish_too)
        code, said = command(
            capsys, "load", other.ifname, "--netns", other.netns, str(samples / "tailcalls.o")
        )
        assert code == 5, said
        assert "exist" in said


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("device", ["lo", "a bridge", "a large MTU"])
def test_devices_without_native_mode(
    root: None,
    samples: Path,
    own_bpffs: Path,
    linkage: Linkage,
    device: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Playground(mtu=9000 if device == "a large MTU" else 1500) as playground:
        ifname = {"lo": "lo", "a bridge": "bridge0"}.get(device, playground.ifname)
        if device == "a bridge":
            subprocess.run(
                ["ip", "-n", playground.netns, "link", "add", ifname, "type", "bridge"], check=True
            )
        scene = Scene(playground, own_bpffs, linkage)
        arguments = ["load", ifname, "--netns", playground.netns, str(samples / "tailcalls.o")]
        arguments += ["--linkage", str(linkage)]
        with scene.unchanged():
            running = look(ifname, playground.netns)
            with pytest.raises(Unsupported) as caught:
                apply(make_plan(running, Chain(linkage=linkage).add(slot(samples, "tailcalls"))))
            assert explained(caught.value)
            assert look(ifname, playground.netns).hooks == ()
            code, said = command(capsys, *arguments)
            assert code == 6
            assert ("MTU" if device == "a large MTU" else "generic") in said
            assert look(ifname, playground.netns).hooks == ()
        # The advice in the message works.
        code, said = command(capsys, *arguments, "-m", "generic")
        assert code == 0, said
        assert look(ifname, playground.netns).mode is Mode.GENERIC
        assert command(capsys, "unload", ifname, "--netns", playground.netns, "--all")[0] == 0


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("where", ["an ordinary directory", "nothing", "a file", "not mounted"])
def test_no_bpf_filesystem(
    scene: Scene, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Refused where pins are needed, before anything is loaded; static linkage needs them only for tail
    calls.
    """
    place = tmp_path / "elsewhere"
    if where == "an ordinary directory":
        place.mkdir()
    elif where == "a file":
        place.write_text("")
    elif where == "not mounted":
        place = scene.bpffs

    def prepare() -> None:
        own_mounts.unshare()
        os.environ["LIBXDP_BPFFS"] = str(place)
        if where == "not mounted":
            subprocess.run(["umount", str(scene.bpffs)], check=True)

    with scene.unchanged():
        for name in ("tailcalls", "mark") if scene.linkage is Linkage.FREPLACE else ("tailcalls",):
            done = run_cli(*scene.load(samples / f"{name}.o"), prepare=prepare)
            # A chain whose pins can't be seen can't be changed, and is not offered for removal.
            seen = scene.linkage is not Linkage.FREPLACE or not look_at(scene.playground).hooks
            assert done.code == (6 if seen else 4), done
            assert "BPF filesystem" in done.err
            assert "ount" in done.err
            assert "Remove it" not in done.err


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_bpf_filesystem_that_is_full_of_strangers(
    scene: Scene, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others' directories beside our pins do no harm, and stay."""
    strangers = ["somebody", "xdp/dispatch-x", "xdptui/readme", "xdptui/\u00b2"]
    # No program has such an id, so these look like our stale pins. The contents of the second are not.
    stale = ["xdp/dispatch-1-4294967293", "xdptui/4294967294"]
    strangers += ["xdptui/4294967293", "xdptui/4294967293/theirs"]
    for name in strangers + stale:
        (scene.bpffs / name).mkdir(parents=True, exist_ok=True)
    assert command(capsys, *scene.load(samples / "tailcalls.o"))[0] == 0
    assert command(capsys, "unload", *scene.where, "--all")[0] == 0
    assert not (scene.bpffs / stale[1]).exists()
    for name in reversed(strangers):
        assert (scene.bpffs / name).is_dir(), name
        (scene.bpffs / name).rmdir()
