# SPDX-License-Identifier: Apache-2.0
"""`apply --follow`, run as by the systemd unit: interfaces that appear or are recreated get their chain."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.command_line import COMMAND
from tests.kernel.systemd_unit import unit_command
from xdpchain.errors import NotFound
from xdpchain.observe.discover import look, survey
from xdpchain.testing.playground import Playground

PATIENCE = 20.0
numbers = itertools.count()


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True)


def add(namespace: str, name: str) -> None:
    ip(namespace, "link", "add", name, "type", "veth", "peer", "name", f"peer{next(numbers)}")


def runs(namespace: str, name: str) -> list[str]:
    try:
        return [slot.name for slot in look(name, namespace).chain or ()]
    except NotFound:
        return []


def entry(name: str, path: Path) -> str:
    return f'[[interface]]\nname = "{name}"\nlinkage = "static"\n[[interface.slot]]\nobject = "{path}"\n'


@contextmanager
def service(file: Path, namespace: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as systemd starts it: with a notification socket, and no terminal."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.settimeout(PATIENCE)
        process = subprocess.Popen(
            [*unit_command(file), "--netns", namespace],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
        )
        try:
            assert notify.recv(100) == b"READY=1"
            yield process
        finally:
            address.unlink()
            if process.poll() is None:
                process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.toml"


def test_it_is_there_at_boot_and_when_the_interface_is_made_again(
    playground: Playground, file: Path, samples: Path, tmp_path: Path
) -> None:
    where, name = playground.netns, playground.ifname
    file.write_text(entry(name, samples / "firewall.o") + entry("late*", samples / "pass.o"))
    with service(file, where, tmp_path) as process:
        assert runs(where, name) == ["xdp_firewall"], "when it says that it is ready, the chains run"
        add(where, "late0")
        until(lambda: runs(where, "late0") == ["xdp_pass"], "an interface that appears gets its chain")
        before = look("late0", where).interface.ifindex
        ip(where, "link", "del", "late0")
        add(where, "late0")
        until(lambda: runs(where, "late0") == ["xdp_pass"], "and so does one that is made again")
        assert look("late0", where).interface.ifindex != before
        ip(where, "link", "set", "late0", "down")
        ip(where, "link", "set", "late0", "name", "other0")
        add(where, "late0")
        until(lambda: runs(where, "late0") == ["xdp_pass"], "another one of the same name")
        out, _ = ended(process)
    assert "late0" in out
    assert runs(where, name) == ["xdp_firewall"], "the chains outlive the service"


def test_what_others_change_stays_changed(
    playground: Playground, file: Path, samples: Path, tmp_path: Path
) -> None:
    from xdptui.cli import main

    where, name = playground.netns, playground.ifname
    file.write_text(entry(name, samples / "pass.o"))
    with service(file, where, tmp_path) as process:
        assert main(["load", name, str(samples / "drop.o"), "--netns", where, "-P", "90"]) == 0
        add(where, "noise0")
        time.sleep(1)
        assert runs(where, name) == ["xdp_pass", "xdp_drop"]
        file.write_text(entry(name, samples / "monitor.o"))
        process.send_signal(signal.SIGHUP)
        until(lambda: runs(where, name) == ["xdp_monitor"], "told to read it again, it applies it again")
        file.write_text("= =")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        add(where, "noise1")
        assert runs(where, name) == ["xdp_monitor"]
        _, err = ended(process, signal.SIGINT)
    assert "not TOML" in err


def test_a_failure_is_tried_again(playground: Playground, file: Path, samples: Path, tmp_path: Path) -> None:
    from tests.kernel.loaders import attach_pinned, pinned_program

    where, name = playground.netns, playground.ifname
    file.write_text(entry("aa*", samples / "pass.o") + entry(name, samples / "pass.o"))
    with pinned_program(samples / "drop.o") as pin:
        attach_pinned(playground, pin)
    with service(file, where, tmp_path) as process:
        assert look(name, where).chain is None
        add(where, "aa0")
        until(lambda: runs(where, "aa0") == ["xdp_pass"], "one that fails is in nobody's way")
        ip(where, "link", "set", "dev", name, "xdpdrv", "off")
        until(lambda: runs(where, name) == ["xdp_pass"], "when it is free, it gets its chain")
        _, err = ended(process)
    assert err.count("will not be replaced") == 1, "said once, not at each try"


def test_a_namespace_that_comes_later(root: None, file: Path, samples: Path, tmp_path: Path) -> None:
    made = Playground()
    with made:
        where, name = made.netns, made.ifname
    # It is gone again, and its name is known.
    with pytest.raises(NotFound):
        survey(where)
    file.write_text(entry(name, samples / "pass.o"))
    with service(file, where, tmp_path) as process:
        subprocess.run(["ip", "netns", "add", where], check=True)
        try:
            add(where, name)
            until(lambda: runs(where, name) == ["xdp_pass"], "in a namespace that was made meanwhile")
            subprocess.run(["ip", "netns", "del", where], check=True)
            subprocess.run(["ip", "netns", "add", where], check=True)
            add(where, name)
            until(lambda: runs(where, name) == ["xdp_pass"], "and in one that was made again")
        finally:
            subprocess.run(["ip", "netns", "del", where], check=True)
        ended(process)


@pytest.mark.parametrize("more", [["--confirm", "60"], ["--wait", "3"], ["--dry-run"]])
def test_a_service_has_nobody_to_ask(file: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from xdptui.cli import main

    file.write_text("")
    assert main(["apply", "--follow", str(file), *more]) == 64
    assert more[0] in capsys.readouterr().err
    assert main(["plan", "--follow", str(file)]) == 64
    assert main(["apply", "--follow", "-"]) == 64


def test_a_spec_that_can_not_be_read_ends_it(root: None, file: Path) -> None:
    command = [*COMMAND, "apply", "--follow", str(file)]
    assert subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode == 5
