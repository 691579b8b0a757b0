# SPDX-License-Identifier: Apache-2.0
"""`run`: the tests marked `vm`, once under each kernel."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from vmlab import emulator, kernels, packages, report, xdp_tools
from vmlab.boot_command import wants_kvm
from vmlab.cache import locked
from vmlab.errors import LabError
from vmlab.guest import Guest

__all__ = ["run", "split"]

_ROOT = Path(__file__).resolve().parents[3]
_LAB = Path(__file__).resolve().parents[1]
_DEFAULT_KERNEL = "6.1"
_PYTEST_FAILURES = 1
_PYTEST_NO_TESTS = 5
_SECONDS_PER_TEST = "600"


@dataclass(frozen=True, slots=True)
class _Selection:
    by_name: bool
    tests: int
    files: list[str]
    idle_plugins: list[str]

    def arguments(self, extra: Sequence[str]) -> list[str]:
        """pytest's arguments in a guest: the user's, plus those that keep it from importing more than it
        needs."""
        asked_for = any(word.startswith(("--hypothesis", "--snapshot", "-p")) for word in extra)
        without = [] if asked_for else [word for name in self.idle_plugins for word in ("-p", f"no:{name}")]
        return [*without, *extra, *([] if self.by_name else self.files)]


def split(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Divides `[OPTION... KERNEL...] [--] [PYTEST-ARGUMENT...]` into options, kernels and pytest's arguments.

    Words before the first kernel are our options; the kernels end at the first word that names none. One word
    may hold several kernels, as a Makefile variable does. Without a kernel everything is pytest's. Raises
    LabError if a word looks like a kernel but names none.
    """

    def is_kernel(word: str) -> bool:
        return bool(word.split()) and all(kernels.is_name(name) for name in word.split())

    first = next((index for index, word in enumerate(words) if is_kernel(word)), 0)
    rest = list(words[first:])
    named: list[str] = []
    while rest and is_kernel(rest[0]):
        named += rest.pop(0).split()
    if rest and rest[0] == "--":
        rest.pop(0)
    elif rest and not rest[0].startswith("-") and not Path(rest[0].split("::")[0]).exists():
        kernels.names_of(rest[:1])
    return list(words[:first]), named, rest


def _python() -> Path:
    """The project's interpreter, its path not resolved: Python finds its environment by its location."""
    for folder in (os.environ.get("VENV"), ".venv", os.environ.get("VIRTUAL_ENV")):
        if folder and (python := _ROOT / folder / "bin" / "python").exists():
            return python
    raise LabError(f"there is no virtual environment in {_ROOT}. Make it:  make dev")


def _select(python: Path, arguments: Sequence[str]) -> _Selection:
    """Collects here, where it takes a second, and leaves the byte code for the guests, including that of late
    imports: compiling a file takes long there.

    Raises LabError with pytest's message if the tests can't be collected.
    """
    subprocess.run([python, "-m", "compileall", "-q", "core", "xdptui"], cwd=_ROOT, check=False)
    with tempfile.NamedTemporaryFile(prefix="xdptui-lab.", suffix=".json") as written:
        search = os.pathsep.join(filter(None, (str(_LAB), os.environ.get("PYTHONPATH"))))
        result = subprocess.run(
            [python, "-m", "pytest", "-m", "vm", "-p", "vmlab.collected", *arguments, "--collect-only", "-q"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": search, "XDPTUI_LAB_COLLECTED": written.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode not in (0, _PYTEST_NO_TESTS):
            # The names of the tests that could be collected come before the first rule.
            errors = result.stdout[max(result.stdout.find("\n==="), 0) :]
            raise LabError(f"the tests can't be collected:{errors}{result.stderr}".rstrip())
        return _Selection(**json.loads(Path(written.name).read_text()))


def _environment(tools: str | None) -> dict[str, str]:
    """What tests may depend on, in the guest as here; ``tools`` names the suite of the xdp-tools."""
    environment = {"PYTEST_TIMEOUT": os.environ.get("PYTEST_TIMEOUT", _SECONDS_PER_TEST)}
    for name in ("COLUMNS", "NO_COLOR", "VENV", "XDPTUI_SOAK", "XDPTUI_SOAK_EDITS", "XDPTUI_SOAK_PROCESSES"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return {**environment, **(xdp_tools.fetch(tools).environment if tools else {})}


@dataclass(frozen=True, slots=True)
class _Ending:
    """How the tests of a guest ended: pytest's exit code, the tests that ran at first, and both as text."""

    code: int
    tally: report.Tally
    words: str


def _run_one(guest: Guest, python: Path, folder: Path, arguments: Sequence[str], *claims: str) -> _Ending:
    """Runs the tests in one guest, and failed ones once more in a fresh one. ``claims`` are pytest arguments
    that leave some to other guests.

    One at a time: libxdp's tools walk over all programs on the machine, and fail where another test's go.
    """
    color = "yes" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "no"
    own = [
        *("-m", "vm", f"--color={color}"),
        *("-o", f"junit_suite_name=vm-{guest.kernel.name}", "-o", f"cache_dir={folder / 'cache'}"),
    ]

    def run_them(written: str, *how: str) -> tuple[int, report.Tally | None, str]:
        results = folder / written
        results.unlink(missing_ok=True)
        outcome = guest.run([str(python), "-m", "pytest", *own, f"--junitxml={results}", *how, *arguments])
        times = f"{outcome.seconds:.0f} s, {outcome.boot_seconds:.0f} of them to boot"
        tally = None if outcome.exit_code == _PYTEST_NO_TESTS else report.read(results)
        return outcome.exit_code, tally, times

    code, tally, times = run_them("junit.xml", *claims)
    if tally is None:
        return _Ending(code, report.Tally(0, 0, 0, 0), f"no tests, {times}")
    words = f"{tally}, {times}"
    if code == _PYTEST_FAILURES and tally.ran > 0:
        (guest.printer or sys.stdout.buffer).write(b"== what failed, once more\n")
        only_these = ("--last-failed", "--last-failed-no-failures=none")
        code, again, times = run_them("junit-once-more.xml", *only_these)
        words += f"; once more: {again or 'no tests'}, {times}"
    return _Ending(code, tally, words)


def _run_all(guests: Sequence[Guest], python: Path, folder: Path, arguments: Sequence[str]) -> list[_Ending]:
    """Runs the tests in these guests in parallel, each file in whichever guest gets to it first. The first
    guest's output is ours; that of the others follows.
    """
    if len(guests) == 1:
        return [_run_one(guests[0], python, folder, arguments)]
    claims = folder / "claims"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir()
    shared = {"XDPTUI_LAB_CLAIMS": str(claims), "PYTHONPATH": str(_LAB)}
    stop = threading.Event()
    with ThreadPoolExecutor(len(guests)) as threads, contextlib.ExitStack() as held:
        held.callback(stop.set)  # all have ended by then, or we are to end
        running = []
        for number, guest in enumerate(guests, 1):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            printer = None if number == 1 else held.enter_context((own / "output").open("w+b"))
            guest = replace(guest, environment={**guest.environment, **shared}, printer=printer, stop=stop)
            arguments_of_it = (guest, python, own, arguments, "-p", "vmlab.claims")
            running.append((printer, threads.submit(_run_one, *arguments_of_it)))
        endings = []
        for number, (printer, future) in enumerate(running, 1):
            try:
                endings.append(future.result())
            finally:
                if printer is not None:
                    print(f"== guest {number}", flush=True)
                    printer.seek(0)
                    shutil.copyfileobj(printer, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
    return endings


def _verdict(endings: Sequence[_Ending]) -> tuple[bool, str]:
    """Whether all went well in the end, and the summary."""
    ran = sum((ending.tally for ending in endings), report.Tally(0, 0, 0, 0)).ran
    failed = next((ending.code for ending in endings if ending.code not in (0, _PYTEST_NO_TESTS)), 0)
    why = f"pytest ended with {failed}: " if failed else "" if ran else "no test ran: "
    return not why, why + " | ".join(ending.words for ending in endings)


def run(arguments: list[str]) -> int:
    """Returns 0 if tests ran under every kernel and none failed, 5 if none was selected, otherwise 1."""
    parser = argparse.ArgumentParser(
        prog="run",
        usage="run [[OPTION...] KERNEL...] [PYTEST-ARGUMENT...]",
        description="Run the tests marked `vm` under stock Debian kernels, emulated. "
        f"KERNEL: {', '.join(kernels.NAMES)}, all, or suite:NAME; default {_DEFAULT_KERNEL}.",
        epilog="In the environment: PYTEST_ARGS for more of them, KERNELS for when no kernel is named here.",
    )
    parser.add_argument(
        "--out", type=Path, default=_ROOT / "build" / "vm", help="for results; default build/vm"
    )
    parser.add_argument(
        "--xdp-tools",
        metavar="SUITE",
        help="with the xdp-loader and libxdp of this Debian suite",
    )
    parser.add_argument("--guests", metavar="N", type=int, default=1, help="so many at a time; default 1")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for each kernel; default 1800")
    if arguments[:1] in (["-h"], ["--help"]):
        parser.parse_args(arguments[:1])
    own, words, extra = split(arguments)
    options = parser.parse_args(own)
    names = kernels.names_of(words or os.environ.get("KERNELS", "").split() or [_DEFAULT_KERNEL])
    extra += shlex.split(os.environ.get("PYTEST_ARGS", ""))

    os.chdir(_ROOT)
    python = _python()
    selection = _select(python, extra)
    if not selection.tests:
        print("kernel lab: no test marked vm is selected", file=sys.stderr)
        return _PYTEST_NO_TESTS
    packages.require()
    qemu = emulator.find()

    environment = _environment(options.xdp_tools)

    summaries: list[str] = []
    failed = False
    for name in names:
        begun = time.monotonic()
        folder = options.out.absolute() / name.replace(":", "-")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            guest = Guest(
                kernel=kernels.fetch(name),
                emulator=qemu,
                output_folder=folder,
                environment=environment,
                kvm=wants_kvm(),
                timeout=options.timeout,
            )
            print(f"== {selection.tests} tests under {guest.kernel.release}", flush=True)
            with locked(folder, f"it tests under kernel {name}"):
                guests = [guest] * max(1, min(options.guests, len(selection.files)))
                good, summary = _verdict(_run_all(guests, python, folder, selection.arguments(extra)))
            name = f"{name} ({guest.kernel.release})"
        except (LabError, OSError) as error:
            print(f"kernel lab: {error}", file=sys.stderr, flush=True)
            good, summary = False, f"{str(error).splitlines()[0]} ({time.monotonic() - begun:.0f} s)"
        failed |= not good
        summaries.append(f"kernel {name}: {'ok' if good else 'FAILED'}, {summary}")
    print("\n".join(summaries), flush=True)
    return 1 if failed else 0
