# SPDX-License-Identifier: Apache-2.0
"""The program in a real terminal, on a real chain: a drag by escape sequences, colours, bytes, exits."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import kill
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.tui.driving import THREE, look_at, names, run_chain
from tests.tui.terminal import Terminal, Tmux
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import mixture
from xdptui.theme import DARK, LIGHT

COLOUR = re.compile(rb"\x1b\[[0-9;]*?(?:[349][0-7]|10[0-7]|[34]8;[25];[0-9;]+)[;m]")


@contextmanager
def traffic(playground: Playground) -> Iterator[None]:
    """About 300 packets per second until the block ends, for a minute at most."""
    stop = threading.Event()
    few = mixture()

    def send() -> None:
        for tick in range(600):
            if stop.wait(0.1):
                return
            playground.send([few[(tick + i) % len(few)] for i in range(20 + tick % 20)])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_mouse_drag_in_tmux(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, *THREE)
    with Tmux(playground.netns, playground.ifname) as tmux:
        lines = tmux.until(lambda lines: "xdp_monitor" in str(lines) and "received" in str(lines))
        rows = {name: 1 + next(i for i, line in enumerate(lines) if name in line) for name in names(before)}
        source, target = rows["xdp_firewall"], rows["xdp_monitor"]
        column = 1 + lines[source - 1].index("xdp_firewall")
        tmux.mouse(0, column, source)
        for row in range(source + 1, target + 1):
            tmux.mouse(32, column, row)
        tmux.until(lambda lines: any(line.startswith("≡") and "xdp_firewall" in line for line in lines))
        tmux.mouse(0, column, target, "m")
        lines = tmux.until(lambda lines: "CANDIDATE (1 change)" in lines[0])
        shown = [line for line in lines if "xdp_" in line and "after" not in line][:3]
        assert "xdp_firewall" in shown[2]
        assert look_at(playground).identity == before.identity
        tmux.keys("a")
        tmux.until(lambda lines: "RUNNING" in lines[0])
        assert names(look_at(playground)) == ["xdp_ratelimit", "xdp_monitor", "xdp_firewall"]
        tmux.keys("q")


def test_bytes_written_when_only_counters_change(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with traffic(playground), Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("received")
        terminal.listen(3.0)
        seconds = 6.0
        assert 0 < terminal.listen(seconds) / seconds < 2000
        assert terminal.resident_kib < 80 * 1024
        terminal.type("q")
        assert terminal.exit_code() == 0


def test_nothing_is_written_when_nothing_changes(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("received")
        terminal.listen(4.0)
        assert terminal.listen(5.0) < 200


def test_no_color_means_none_and_everything_can_still_be_told(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname, env={"NO_COLOR": "1"}) as terminal:
        terminal.await_text("received")
        terminal.type("DJ")
        terminal.await_text("CANDIDATE")
        terminal.type("p")
        terminal.await_text("Warnings")
        terminal.listen(1.0)
        assert not COLOUR.search(terminal.written)


@pytest.mark.parametrize("term", ["xterm", "linux", "screen"])
def test_sixteen_colours_use_the_terminals_own(playground: Playground, samples: Path, term: str) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname, env={"TERM": term, "COLORTERM": ""}) as terminal:
        terminal.await_text("received")
        terminal.type("p?")
        terminal.listen(1.5)
        assert COLOUR.search(terminal.written)
        assert not re.search(rb"[34]8;[25];", terminal.written)
        terminal.type("\x1b")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_program_leaves_the_chain_as_it_is(
    playground: Playground, samples: Path, how: signal.Signals
) -> None:
    before = run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("received")
        terminal.type("J")
        terminal.await_text("CANDIDATE")
        kill(terminal.pid, how)
        code = terminal.exit_code()
        if how is signal.SIGKILL:
            assert code == -how
        else:
            assert code == 128 + how
            assert b"\x1b[?1049l" in terminal.written, "the terminal is given back as it was"
    assert look_at(playground).identity == before.identity


def test_a_terminal_that_closes_ends_the_program(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    terminal = Terminal(playground.netns, playground.ifname)
    with terminal:
        terminal.await_text("received")
        terminal.hang_up()
        terminal.exit_code()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize(
    ("dropped", "named"),
    [("-net_admin", "CAP_NET_ADMIN"), ("-bpf,-sys_admin,-perfmon", "CAP_BPF"), ("-all", "CAP_SYS_ADMIN")],
)
def test_without_a_capability_it_looks_and_says_which(
    playground: Playground, samples: Path, dropped: str, named: str
) -> None:
    before = run_chain(playground, samples, *THREE)
    # Without CAP_SYS_ADMIN a process can't enter another namespace, so it starts inside.
    inside = "sys_admin" in dropped or dropped == "-all"
    prefix = ["ip", "netns", "exec", playground.netns] if inside else []
    prefix += ["setpriv", f"--bounding-set={dropped}", "--inh-caps=-all"]
    arguments = [] if inside else [playground.netns, playground.ifname]
    with Terminal(*arguments, size=(140, 30), prefix=prefix) as terminal:
        terminal.await_text("READ-ONLY")
        terminal.await_text(named)
        terminal.await_text(playground.ifname)
        terminal.type("jlJDuaq")
        assert terminal.exit_code() == 0
    assert look_at(playground).identity == before.identity


def test_the_first_screen_is_painted_once(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname, size=(120, 40)) as terminal:
        terminal.await_text("xdptui")
        before, _ = terminal.written.split(b"xdptui", 1)
        assert len(before) < 1000, "something was painted before the top line"
        terminal.await_text("received")
        terminal.type("q")
        assert terminal.exit_code() == 0


def test_a_light_theme(playground: Playground, samples: Path, tmp_path: Path) -> None:
    run_chain(playground, samples, *THREE)
    (tmp_path / "xdptui").mkdir()
    (tmp_path / "xdptui" / "config.toml").write_text('theme = "light"\n')
    red, green, blue = (int(str(LIGHT.background)[i : i + 2], 16) for i in (1, 3, 5))
    with Terminal(playground.netns, playground.ifname, env={"XDG_CONFIG_HOME": str(tmp_path)}) as terminal:
        terminal.await_text("received")
        assert f"48;2;{red};{green};{blue}".encode() in terminal.written
        assert str(DARK.background) == "#0e1318"
        assert b"48;2;14;19;24" not in terminal.written
        terminal.type("q")
        assert terminal.exit_code() == 0


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("width", [60, 80, 120])
def test_wide_characters_in_names(width: int) -> None:
    """An interface's name may be any bytes; each of these characters takes two columns."""
    with Playground(links=2) as ground:
        wide = "広域網0"
        for command in (("down",), ("name", wide), ("up",)):
            name = wide if command == ("up",) else ground.links[1].ifname
            subprocess.run(["ip", "-n", ground.netns, "link", "set", name, *command], check=True)
        with Tmux(ground.netns, ground.ifname, size=(width, 24)) as tmux:
            lines = tmux.until(lambda lines: wide in str(lines) and ground.ifname in str(lines))
            rows = [line for line in lines if "veth" in line or " up " in line]
            (odd,) = (row for row in rows if wide in row)
            (even,) = (row for row in rows if f" {ground.ifname} " in row)
            for word in (" up ", "free"):
                assert cell_len(odd[: odd.index(word)]) == cell_len(even[: even.index(word)])
            assert all(cell_len(line) <= width for line in lines)
            tmux.keys("/")
            tmux.until(lambda lines: "filter: words" in str(lines))
            tmux.keys("-l", "網")
            tmux.until(lambda lines: "filter: 1 of 3" in str(lines) and wide in str(lines))


def test_without_colours_the_cursor_of_a_list_is_underlined(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname, env={"NO_COLOR": "1"}) as terminal:
        terminal.await_text("received")
        terminal.type("u")
        terminal.await_text("space marks")
        terminal.listen(1.0)
        marked = [
            piece for piece in terminal.written.split(b"\x1b[") if b"0  xdp_firewall  priority" in piece
        ]
        assert any(re.match(rb"(?:[0-9]+;)*4[;m]", piece) for piece in marked), marked
