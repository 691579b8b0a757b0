# SPDX-License-Identifier: Apache-2.0
"""The command line when things go wrong: bad input, somebody else's program, lost races, missing
permissions.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import why_no_freplace
from tests.kernel.command_line import COMMAND, CommandLine
from xdpchain import editing
from xdptui.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bad(tmp_path: Path, samples: Path) -> dict[str, str]:
    """Placeholders of the table below: paths of files that are not objects, and of good ones."""
    whole = (samples / "firewall.o").read_bytes()
    files = {"text": b"hello\n", "empty": b"", "truncated": whole[: len(whole) // 2], "head": whole[:40]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    words = {name: str(tmp_path / name) for name in files}
    words |= {name: str(samples / f"{name}.o") for name in ("pass", "two", "refused", "monitor")}
    return words | {"directory": str(tmp_path), "missing": str(tmp_path / "missing.o"), "long": "x" * 300}


# Command, exit code, and a word that the message must contain.
BAD: dict[str, tuple[str, int, str]] = {
    "not an ELF file": ("load {if} {text}", 7, "ELF"),
    "empty": ("load {if} {empty}", 7, "empty"),
    "truncated": ("load {if} {truncated}", 7, "truncated"),
    "only a header": ("load {if} {head}", 7, "head"),
    "a directory": ("load {if} {directory}", 7, "directory"),
    "no such file": ("load {if} {missing}", 5, "No such file"),
    "a good object and a bad one": ("load {if} {pass} {text}", 7, "ELF"),
    "a name too long for a file": ("load {if} {long}", 7, "too long"),
    "no such program": ("load {if} {pass} -n nope", 5, "nope"),
    "no such section": ("load {if} {pass} -s nope", 5, "nope"),
    "a section of two programs": ("load {if} {two} -s xdp", 7, "two_learn"),
    "refused by the verifier": ("load {if} {refused}", 1, "refused"),
    "no such interface": ("load nope0 {pass}", 5, "nope0"),
    "a name too long for an interface": ("load {long} {pass}", 5, "xxx"),
    "no such interface to look at": ("status nope0", 5, "nope0"),
    "no such interface's features": ("features nope0", 5, "nope0"),
    "no such interface to watch": ("watch nope0", 5, "nope0"),
    "a priority in words": ("load {if} {pass} -P high", 7, "high"),
    "a priority below 0": ("load {if} {pass} -P -1", 7, "-1"),
    "a priority beyond an int": ("load {if} {pass} -P 2147483648", 7, "2147483648"),
    "an action that is none": ("load {if} {pass} -A XDP_MAYBE", 7, "XDP_MAYBE"),
    "a mode that is none": ("load {if} {pass} -m fast", 7, "fast"),
    "offloaded": ("load {if} {pass} -m hw", 6, "offload"),
    "no native mode": ("load lo {pass}", 6, "-m generic"),
    "a place that is none": ("load {if} {pass} --at first", 7, "first"),
    "a place beyond the end": ("load {if} {pass} --at 9", 5, "9"),
    "a slot that is none": ("unload {if} 9", 5, "9"),
    "a component that is none": ("unload {if} xdp_nope", 5, "xdp_nope"),
    "a program that is none": ("unload {if} --id 4294967295", 5, "4294967295"),
    "an id in words": ("unload {if} --id first", 7, "first"),
    "a slot that is none to set": ("set {if} 9 -P 1", 5, "9"),
    "a slot that is none to move": ("move {if} 0 9", 5, "9"),
    "a version for no slot": ("replace {if} 9 {pass}", 5, "9"),
    "a version that is no object": ("replace {if} 0 {text}", 7, "ELF"),
    "a version without the program": ("replace {if} 0 {two}", 7, "xdp_monitor"),
    "nothing to set": ("set {if} 0", 64, "what to set"),
    "a priority for no slot": ("set {if} -P 1", 64, "which slot"),
    "nothing to unload": ("unload {if}", 64, "what to unload"),
    "two ways to unload": ("unload {if} 0 --all", 64, "exclude"),
    "no object": ("load {if}", 64, "OBJ"),
    "an option that is none": ("load {if} {pass} --fast", 64, "--fast"),
    "a linkage that is none": ("load {if} {pass} --linkage magic", 64, "magic"),
    "no command": ("lod {if} {pass}", 64, "load"),
    "a plan of nothing": ("plan", 64, "COMMAND"),
    "a plan of a question": ("plan status", 64, "status"),
    "no interval": ("watch {if} --interval soon", 7, "soon"),
    "an interval of nothing": ("watch {if} --interval 0", 7, "0"),
    "an interval without end": ("watch {if} --interval nan", 7, "nan"),
    "no count": ("watch {if} --count 0", 7, "0"),
}


@pytest.mark.parametrize(("command", "code", "word"), BAD.values(), ids=BAD)
def test_bad_input(cli: CommandLine, bad: dict[str, str], command: str, code: int, word: str) -> None:
    cli.load("monitor")
    before = cli.status()
    words = [one.format_map({"if": cli.interface, **bad}) for one in command.split()]
    plain = cli(*words)
    assert plain.code == code, plain.err
    assert plain.out == ""
    assert plain.err.startswith("xdptui: ")
    assert "internal error" not in plain.err
    assert word in plain.err
    as_json = cli(*words, "--json")
    assert as_json.code == as_json.error["exit_code"] == code
    assert as_json.out == ""
    assert cli.status() == before


def test_a_namespace_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["load", "lo", "x.o"], ["watch"], ["features"], ["lo"]):
        code = main([*words, "--netns", "xdptui-no-such"])
        said = capsys.readouterr()
        assert (code, said.out) == (5, "")


def test_freplace_where_the_kernel_refuses_it(cli: CommandLine) -> None:
    if why_no_freplace() is None:
        pytest.skip("this kernel takes programs of type EXT")
    loaded = cli("load", cli.interface, cli.sample("pass"))
    assert "static linkage: this kernel " in loaded.out  # and why
    before = cli.status()
    for command in ("load", cli.interface, cli.sample("pass")), ("relink", cli.interface):
        refused = cli(*command, "--linkage", "freplace", "--json")
        assert (refused.code, refused.error["kind"]) == (6, "Unsupported")
        assert "--linkage static" in refused.error["todo"]
    assert cli("plan", "relink", cli.interface, "--linkage", "auto").code == 0
    assert cli.status() == before


def test_a_name_that_several_slots_have(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, *[cli.sample("pass")] * 10)
    ambiguous = cli("unload", cli.interface, "xdp_pass")
    assert ambiguous.code == 7
    assert "matches 10 slots" in ambiguous.err


def test_the_dispatcher_itself_is_no_component(cli: CommandLine) -> None:
    cli.load("pass")
    number = cli.status()["dispatcher"]["id"]
    refused = cli("unload", cli.interface, "--id", str(number))
    assert refused.code == 7
    assert "--all" in refused.err


def test_somebody_elses_program_is_shown_and_left_alone(cli: CommandLine) -> None:
    attach = ["ip", "-n", cli.playground.netns, "link", "set", cli.interface, "xdpdrv"]
    subprocess.run([*attach, "obj", cli.sample("drop"), "sec", "xdp"], check=True, capture_output=True)
    entry = cli.status()
    assert (entry["owner"], entry["linkage"], entry["slots"]) == ("foreign", None, [])
    assert entry["note"]
    commands = (
        ("load", cli.interface, cli.sample("pass")),
        ("unload", cli.interface, "--all"),
        ("unload", cli.interface, "0"),
        ("unload", cli.interface, "--id", str(entry["programs"][0]["id"])),
        ("move", cli.interface, "0", "1"),
        ("set", cli.interface, "0", "-P", "1"),
        ("replace", cli.interface, "0", cli.sample("pass")),
        ("relink", cli.interface, "--linkage", "static"),
    )
    for command in commands:
        refused = cli(*command, "--json")
        assert (refused.code, refused.error["kind"]) == (4, "NotOurs"), command
        assert refused.error["todo"]
        assert cli("plan", *command).code == 4
    table = cli("status", cli.interface).out
    assert "somebody else's" in table
    assert "=>" not in table
    assert cli.status() == entry


def _beaten_once(monkeypatch: pytest.MonkeyPatch, cli: CommandLine) -> list[int]:
    """Let another process load a component right before our change: the first time only."""
    real = editing.apply_all
    calls: list[int] = []

    def apply(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 1:
            cli.process("load", cli.interface, cli.sample("monitor"), check=True, capture_output=True)
        return real(*args, **kwargs)

    monkeypatch.setattr(editing, "apply_all", apply)
    return calls


def test_a_change_that_names_no_slot_by_number_is_made_again(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _beaten_once(monkeypatch, cli)
    assert cli.load("pass").slots() == ["xdp_pass", "xdp_monitor"]
    assert calls == [0, 1]


def test_a_change_that_names_a_slot_by_number_is_not(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.load("pass", "firewall")
    calls = _beaten_once(monkeypatch, cli)
    lost = cli("unload", cli.interface, "0", "--json")
    assert (lost.code, lost.error["kind"]) == (4, "RaceLost")
    assert "pid" in lost.error["why"]  # who was faster
    assert calls == [0]
    assert len(cli.status()["slots"]) == 3


def test_editors_at_once_lose_nothing(cli: CommandLine) -> None:
    """Four processes load one component each, simultaneously."""

    def load(name: str) -> int:
        done = cli.process("load", cli.interface, cli.sample(name), capture_output=True)
        return int(done.returncode)

    names = ["pass", "firewall", "ratelimit", "monitor"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, names)) == [0] * 4
    found = {slot["name"] for slot in cli.status()["slots"]}
    assert found == {f"xdp_{name}" for name in names}


def watching_a_chain(cli: CommandLine, *words: str) -> Any:
    """``xdptui watch`` on a chain, once it has printed something."""
    cli.load("pass")
    watching = cli.process(
        "watch", cli.interface, "--interval", "0.05", *words, run=subprocess.Popen,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert watching.stdout.readline()
    return watching


def test_ctrl_c_ends_watching_quietly(cli: CommandLine) -> None:
    watching = watching_a_chain(cli)
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (130, "")


def test_a_reader_that_leaves_ends_watching_quietly(cli: CommandLine) -> None:
    watching = watching_a_chain(cli)
    watching.stdout.close()
    _, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (141, "")


def test_an_interface_that_vanishes_ends_watching(cli: CommandLine) -> None:
    watching = watching_a_chain(cli, "--jsonl")
    subprocess.run(["ip", "-n", cli.playground.netns, "link", "del", cli.interface], check=True)
    _, err = watching.communicate(timeout=60)
    assert watching.returncode == 5
    assert cli.interface in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written(cli: CommandLine, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = cli.process(
            "status", stdout=full, stderr=subprocess.PIPE, cwd=ROOT,
            env={"PYTHONUNBUFFERED": unbuffered, "PATH": "/bin"},
        )  # fmt: skip
    assert done.returncode == 74
    assert "No space left" in done.stderr


def test_characters_that_the_terminal_lacks(cli: CommandLine) -> None:
    cli.load("firewall", "monitor")
    done = cli.process(
        "move", cli.interface, "0", "1", capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/bin"}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0
    assert "priority 10 ? 100" in done.stdout  # an arrow otherwise


def test_without_a_terminal_the_status_comes_plain(cli: CommandLine) -> None:
    cli.load("pass")
    done = cli.process(capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert " =>" in done.stdout
    only = cli.process(cli.interface, capture_output=True, stdin=subprocess.DEVNULL)
    assert only.stdout.count("\n") < done.stdout.count("\n")
    assert cli.process("nope0", capture_output=True, stdin=subprocess.DEVNULL).returncode == 5


def test_status_imports_no_terminal_library(cli: CommandLine) -> None:
    cli.load("pass")
    code = (
        "import sys; from xdptui.cli import main; code = main(sys.argv[1:]);"
        "loaded = {name.split('.')[0] for name in sys.modules};"
        "print(code, *sorted({'textual', 'rich', 'elftools', 'tomlkit'} & loaded))"
    )
    words = ["status", cli.interface, "--netns", cli.playground.netns]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_without_root_it_says_what_is_missing(cli: CommandLine, tmp_path: Path) -> None:
    """In our own namespace, because entering another takes a capability too; nothing is changed on lo."""
    copy = tmp_path / "pass.o"
    copy.write_bytes(Path(cli.sample("pass")).read_bytes())
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    tmp_path.chmod(0o755)
    with open(copy) as held:
        path = f"/proc/self/fd/{held.fileno()}"
        done = subprocess.run(
            [*as_nobody, *COMMAND, "load", "lo", path, "-m", "generic"],
            capture_output=True, text=True, pass_fds=(held.fileno(),), cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "xdptui: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_bpf_filesystem_can_be_mounted(cli: CommandLine) -> None:
    """A program array needs a pin: without a BPF filesystem it says so, and mounts one on request."""
    words = [
        "--netns",
        cli.playground.netns,
        "load",
        cli.interface,
        cli.sample("tailcalls"),
        "--linkage",
        "static",
    ]

    empty = "mount -t tmpfs tmpfs /sys/fs/bpf"
    env = {name: value for name, value in os.environ.items() if not name.startswith("LIBXDP")}

    def among(mounts: Sequence[str], *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*mounts, *COMMAND, *words, *more], capture_output=True, text=True, env=env, timeout=60
        )

    ends = ["unshare", "--mount", "sh", "-c", f'{empty} && exec "$@"', "sh"]
    refused = among(ends, "--mount-bpffs")
    assert refused.returncode == 6, refused.stderr
    assert "mounted only for this command" in refused.stderr
    # Somebody else's mount namespace, which stays.
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{empty} && echo there && exec sleep 60"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"there\n"
        stays = ["setsid", "--wait", "nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"]
        refused = among(stays)
        assert refused.returncode == 6, refused.stderr
        assert "--mount-bpffs" in refused.stderr
        assert cli.status()["slots"] == []
        done = among(stays, "--mount-bpffs")
        assert done.returncode == 0, done.stderr
        assert [slot["name"] for slot in cli.status()["slots"]] != []
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_the_start_is_cheap(cli: CommandLine) -> None:
    """In processor time, which does not depend on other load: it takes 0.1 s."""
    cli.process("status", check=True, capture_output=True)  # byte code
    took = []
    for _ in range(3):
        before = os.times()
        cli.process("status", check=True, capture_output=True)
        after = os.times()
        took.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    assert min(took) < 0.6
