# SPDX-License-Identifier: Apache-2.0
"""1,000 interfaces, 125 of them with chains: the processor time of every long-running viewer at 1 Hz, at rest
and while interfaces come and go; and the first paint, compared with ten interfaces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest

from tests.kernel.test_churn import Churn
from tests.tui.terminal import Terminal
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
MANY, CHAINS, NAMESPACES = 1000, 125, 500
SHARE, PAINT_RATIO = 0.05, 1.5
WATCHED_S = 15.0
SLOTS = ("firewall", "ratelimit", "monitor")


def add_links(playground: Playground, count: int) -> None:
    """Add ``count`` interfaces, as veth pairs, in one process."""
    pairs = range(count // 2)
    lines = [f"link add v{i} type veth peer name w{i}" for i in pairs]
    lines += [f"link set {end}{i} up" for i in pairs for end in "vw"]
    ip = ["ip", "-n", playground.netns, "-batch", "-"]
    subprocess.run(ip, input="\n".join(lines), text=True, check=True)


def add_chains(playground: Playground, samples: Path, count: int) -> None:
    chain = Chain()
    for name in SLOTS:
        chain = chain.add(Slot.of(load_component(str(samples / f"{name}.o"))))
    for i in range(count):
        apply(make_plan(look(f"v{i}", playground.netns), chain))


@pytest.fixture(scope="module")
def many(root: None, samples: Path) -> Iterator[Playground]:
    with Playground() as playground:
        add_links(playground, MANY)
        add_chains(playground, samples, CHAINS)
        yield playground


def spent(pid: int) -> float:
    """Seconds of user and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "xdptui", *words]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.terminate()


def share(pid: int, wait: Callable[[float], object] = time.sleep) -> float:
    """The share of a core that a process uses from now on, excluding its start."""
    before, begun = spent(pid), time.monotonic()
    wait(WATCHED_S)
    return (spent(pid) - before) / (time.monotonic() - begun)


def under_churn(
    playground: Playground, pid: int, wait: Callable[[float], object] = time.sleep
) -> tuple[float, float]:
    """The share of a core while veth pairs come and go, and how many of them per second."""
    with Churn(playground.netns) as churn:
        made, begun = churn.made, time.monotonic()
        used = share(pid, wait)
        rate = (churn.made - made) / (time.monotonic() - begun)
    return used, rate


def told(name: str, at_rest: float, moved: tuple[float, float]) -> None:
    used, rate = moved
    print(f"\n{MANY} interfaces, {name}: {at_rest:.1%} of a core at rest, {used:.1%} while {rate:.0f} veth "
          "pairs come and go per second", end="")  # fmt: skip


def test_first_paint(many: Playground, samples: Path) -> None:
    """Until the first figures of the first chain."""

    def first_paint(playground: Playground, ifname: str) -> float:
        with Terminal(playground.netns, ifname, size=(120, 40)) as terminal:
            terminal.await_text("firewall")
            return terminal.cpu_seconds

    with Playground() as few:
        add_links(few, 10)
        add_chains(few, samples, 2)
        taken: dict[str, list[float]] = {"few": [], "many": []}
        for _ in range(6):
            taken["few"].append(first_paint(few, "v0"))
            taken["many"].append(first_paint(many, "v0"))
    ratio = median(taken["many"]) / median(taken["few"])
    print(f"\nfirst paint among {MANY}: {median(taken['many']):.2f} s of processor time, among 10 "
          f"{median(taken['few']):.2f}: ratio {ratio:.2f}")  # fmt: skip
    assert ratio <= PAINT_RATIO


def test_the_screen(many: Playground) -> None:
    with Terminal(many.netns, "v0", size=(120, 40)) as terminal:
        terminal.await_text("firewall")
        terminal.listen(5.0)
        at_rest = share(terminal.pid, terminal.listen)
        moved = under_churn(many, terminal.pid, terminal.listen)
        resident = terminal.resident_kib
    told("screen", at_rest, moved)
    print(f", {resident / 1024:.0f} MiB", end="")
    assert at_rest <= SHARE


def test_the_exporter(many: Playground) -> None:
    """One scrape per second. Before the service, which leaves more chains."""
    with program("export", "--listen", "127.0.0.1:9471", "--netns", many.netns) as started:

        def scrape(seconds: float = 0.0) -> None:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    with urllib.request.urlopen("http://127.0.0.1:9471/metrics", timeout=30) as answer:
                        answer.read()
                except OSError:
                    assert started.poll() is None
                time.sleep(1.0)
                if time.monotonic() >= deadline:
                    return

        scrape(5.0)
        at_rest = share(started.pid, scrape)
        moved = under_churn(many, started.pid, scrape)
    told("exporter", at_rest, moved)
    assert at_rest <= SHARE


@pytest.mark.parametrize("command", ["watch", "record", "service"])
def test_programs(many: Playground, samples: Path, tmp_path: Path, command: str) -> None:
    spec = tmp_path / "spec.toml"
    objects = "".join(f'[[interface.slot]]\nobject = "{samples / name}.o"\n' for name in SLOTS)
    spec.write_text(f'[[interface]]\nname = "v1*"\n{objects}')
    words = {
        "watch": ["watch", "--jsonl"],
        "record": ["record", str(tmp_path / "record.jsonl")],
        "service": ["apply", "--follow", str(spec)],
    }[command]
    with program(*words, "--netns", many.netns) as started:
        if command == "watch":
            assert started.stdout is not None
            assert json.loads(started.stdout.readline())
            drained = subprocess.Popen(["cat"], stdin=started.stdout, stdout=subprocess.DEVNULL)
        time.sleep(5.0 if command != "service" else 30.0)
        at_rest = share(started.pid)
        moved = under_churn(many, started.pid)
    if command == "watch":
        drained.wait()
    told(command, at_rest, moved)
    assert at_rest <= SHARE


def test_namespaces(root: None) -> None:
    """`status --all-netns` on a host of containers, each with a veth pair."""
    prefix = f"xdptui-{os.getpid()}-many-"
    names = [f"{prefix}{i}" for i in range(NAMESPACES)]
    made = "\n".join(f"netns add {name}" for name in names)
    links = "\n".join(f"link add eth0 netns {name} type veth peer name peer netns {name}" for name in names)
    try:
        for lines in (made, links):
            subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
        before = os.times()
        with program("status", "--all-netns", "--json") as started:
            assert started.stdout is not None
            found = json.loads(started.stdout.read())
            started.wait()
        after = os.times()
    finally:
        gone = "\n".join(f"netns del {name}" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=gone, text=True, check=False)
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    mine = [one for one in found["interfaces"] if (one["netns"] or "").startswith(prefix)]
    print(f"\nstatus --all-netns of {NAMESPACES} namespaces: {seconds:.2f} s of processor time", end="")
    assert len(mine) == 3 * NAMESPACES
    assert seconds <= 0.5 + 0.005 * NAMESPACES
