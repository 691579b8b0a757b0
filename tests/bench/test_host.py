# SPDX-License-Identifier: Apache-2.0
"""What one host with four interfaces costs, and 10,000 of them: the numbers of the table in docs/scale.md."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.bench.test_many import ROOT, SLOTS, add_chains, program, share, spent
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.chain import Chain
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
assert code in (0, 2), code  # 2: plan finds something to change
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
HOSTS, INTERFACES, SCRAPES = 10_000, 4, 20
PORT = 9472


@pytest.fixture(scope="module")
def host(root: None, samples: Path) -> Iterator[Playground]:
    with Playground() as playground:
        lines = "\n".join(f"link add v{i} type veth peer name w{i}" for i in range(INTERFACES))
        subprocess.run(["ip", "-n", playground.netns, "-batch", "-"], input=lines, text=True, check=True)
        add_chains(playground, samples, INTERFACES)
        yield playground


def resident(pid: int) -> float:
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def ran(*words: str) -> tuple[float, float]:
    """The processor time of a command in seconds, and its largest memory in MiB."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"}
    # In between is a small process, because the memory of ours would count as that of its child.
    command = [sys.executable, "-S", "-c", MEASURE, sys.executable, "-m", "xdptui", *words]
    told = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, kib = map(float, told.split())
    return seconds, kib / 1024


def test_the_exporter(host: Playground) -> None:
    names = [f"v{i}" for i in range(INTERFACES)]
    listen = ["--listen", f"127.0.0.1:{PORT}", "--netns", host.netns]
    with program("export", *names, *listen) as started:

        def scrape() -> bytes:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=30) as answer:
                return bytes(answer.read())

        time.sleep(3.0)
        text = scrape()
        before = spent(started.pid)
        for _ in range(SCRAPES):
            time.sleep(1.0)
            text = scrape()
        each = (spent(started.pid) - before) / SCRAPES
        memory = resident(started.pid)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    print(f"\nexporter: {each * 1e3:.1f} ms a scrape, {memory:.0f} MiB, {len(text) / 1e3:.0f} kB "
          f"({len(gzip.compress(text, 1)) / 1e3:.1f} gzipped), {series} series; {HOSTS} hosts: "
          f"{series * HOSTS / 1e6:.1f} million series")  # fmt: skip
    for pause in (15, 60):
        print(f"every {pause} s: {each / pause:.3%} of a core; {HOSTS} hosts: "
              f"{series * HOSTS / pause:,.0f} samples/s, "
              f"{len(text) * HOSTS / pause / 1e6:.1f} MB/s")  # fmt: skip
    assert each <= 0.02


def test_recording(host: Playground, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    with program("record", str(file), "--netns", host.netns) as started:
        time.sleep(5.0)
        size = file.stat().st_size
        used = share(started.pid)
        per_second = (file.stat().st_size - size) / 15
        memory = resident(started.pid)
    print(f"\nrecord, 1 Hz: {used:.1%} of a core, {memory:.0f} MiB, {per_second / 1e3:.1f} kB/s, "
          f"{per_second * 86400 / 1e6:.0f} MB a day; {HOSTS} hosts: "
          f"{per_second * 86400 * HOSTS / 1e12:.1f} TB; "
          f"64 MB last {64e6 / per_second / 3600:.0f} hours")  # fmt: skip
    assert used <= 0.05


def test_the_journal(host: Playground, journal: Path) -> None:
    running = look("v0", host.netns)
    assert running.chain is not None
    apply(make_plan(running, running.chain.move(1, 0)))  # has a chain before and after
    sizes = sorted(entry.stat().st_size for entry in journal.rglob("v[0-9]/*.json"))
    print(f"\njournal: {sizes[0] / 1e3:.1f} to {sizes[-1] / 1e3:.1f} kB a change of {len(SLOTS)} slots; "
          f"at most {100 * INTERFACES * sizes[-1] / 1e6:.1f} MB per host")  # fmt: skip
    assert sizes[-1] <= 8192


def test_plan_apply_and_status(host: Playground, samples: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    objects = "".join(f'[[interface.slot]]\nobject = "{samples / name}.o"\n' for name in SLOTS)
    spec.write_text(f'[[interface]]\nname = "v*"\n{objects}')
    taken: dict[str, list[tuple[float, float]]] = {"plan": [], "apply": [], "status": []}
    for _ in range(5):
        for i in range(INTERFACES):
            apply(make_plan(look(f"v{i}", host.netns), Chain()))
        taken["plan"].append(ran("plan", str(spec), "--netns", host.netns))
        taken["apply"].append(ran("apply", str(spec), "--netns", host.netns))
        taken["status"].append(ran("status", "--netns", host.netns))
    for command, runs in taken.items():
        seconds, memory = median(run[0] for run in runs), max(run[1] for run in runs)
        print(f"\n{command}: {seconds:.2f} s of processor time, {memory:.0f} MiB; {HOSTS} hosts: "
              f"{seconds * HOSTS / 60:.0f} minutes", end="")  # fmt: skip
        assert seconds <= 2.0
