# SPDX-License-Identifier: Apache-2.0
"""One guest: boot a kernel, run one command in it, return its output and its exit code."""

from __future__ import annotations

import contextlib
import os
import platform
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vmlab.emulator import Emulator
from vmlab.errors import LabError
from vmlab.initramfs import build, command_script
from vmlab.kernels import Kernel

__all__ = ["Guest", "Outcome"]

# Don't keep testing on a kernel that oopsed, perhaps in BPF. Emulated time stamp counters agree, but kernels
# up to 6.1 distrust them and fall back on a clock that costs a device access per reading.
_PARAMETERS = "console=ttyS0 panic=-1 oops=panic tsc=reliable mitigations=off"
_TRIES = 3
_CONSOLE_LINES = 60
_SECONDS_TO_STOP = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command in a guest ended.

    `exit_code`: the command's, 128 + N after signal N. `boot_seconds`: from the start of the emulator to that
    of the command, in the boot that reached it. `seconds`: in total, including failed boots.
    """

    exit_code: int
    boot_seconds: float
    seconds: float


class _NeverStarted(LabError):
    """The guest did not reach its command, so retrying is harmless."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine to boot: `kernel` under `emulator`, on this machine's files.

    The guest sees every file here, at its own path; what it writes is discarded, except in `output_folder`,
    which it shares with this machine. `timeout` and `boot_timeout` are in seconds: in total, and until the
    command starts. `before_systemd`: a shell script, after which systemd becomes PID 1, and the command a
    service that starts last; None: no systemd. `printer`: where the command's output goes; None: to our own.
    `stop` ends the guest from another thread.
    """

    kernel: Kernel
    emulator: Emulator
    output_folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    processors: int = 2
    memory: str = "2G"
    kvm: bool = False
    before_systemd: str | None = None
    timeout: float = 1800.0
    boot_timeout: float = 120.0
    console: Path | None = None
    printer: BinaryIO | None = None
    stop: threading.Event | None = None

    def run(self, command: Sequence[str], *, interactive: bool = False) -> Outcome:
        """Boots, runs `command` in the current folder, and forwards its output as it comes.

        `interactive`: the command gets this terminal. A guest that dies before it reaches the command
        reboots, at most twice. Raises LabError if there is no exit code to report: the guest died, or ran out
        of time.
        """
        if platform.machine() != "x86_64":
            raise LabError(
                f"the guest is x86-64 and runs this machine's programs, which are {platform.machine()}"
            )
        begun = time.monotonic()
        script = command_script(command, self._command_environment(interactive), Path.cwd())
        initramfs = build(self.kernel, script, self._settings(interactive), self.before_systemd or "")
        tries = 1 if self.kvm else _TRIES
        for attempt in range(1, tries + 1):
            # Printing all kernel messages takes time, so do it only if somebody will read them.
            talkative = attempt > 1 or self.console is not None
            with tempfile.TemporaryDirectory(prefix="xdptui-lab.") as folder:
                (Path(folder) / "initramfs").write_bytes(initramfs)
                try:
                    exit_code, boot_seconds = self._boot(Path(folder), begun, interactive, talkative)
                    return Outcome(exit_code, boot_seconds, time.monotonic() - begun)
                except _NeverStarted as error:
                    if attempt == tries or time.monotonic() - begun > self.timeout:
                        raise
                    print(f"kernel lab: {error}\nkernel lab: booting again", file=sys.stderr, flush=True)
                finally:
                    if self.console:
                        with contextlib.suppress(OSError):
                            shutil.copyfile(Path(folder) / "console", self.console)
        raise AssertionError("the last try returns or raises")

    def _command_environment(self, interactive: bool) -> dict[str, str]:
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "USER": "root",
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb") if interactive else "dumb",
            "XDPTUI_LAB": "1",
            "XDPTUI_LAB_KERNEL": self.kernel.name,
        }
        if self.output_folder:
            environment["XDPTUI_LAB_OUT"] = str(self.output_folder)
        return environment | dict(self.environment)

    def _settings(self, interactive: bool) -> dict[str, str]:
        size = shutil.get_terminal_size()
        return {
            "modules": str(self.kernel.modules_root),
            "output_folder": str(self.output_folder or ""),
            "interactive": "1" if interactive else "",
            "systemd": "" if self.before_systemd is None else "1",
            "terminal_size": f"{size.lines} {size.columns}",
        }

    def _command_line(self, folder: Path, output: int | None, talkative: bool) -> list[str]:
        share = "security_model=none"
        line: list[str] = [
            # QEMU must not outlive us, however we end.
            *("setpriv", "--pdeathsig", "KILL", "--"),
            str(self.emulator.binary),
            *(word for path in self.emulator.firmware for word in ("-L", str(path))),
            *self.emulator.accelerator(kvm=self.kvm),
            *("-machine", "q35", "-smp", str(self.processors), "-m", self.memory),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self.kernel.image), "-initrd", str(folder / "initramfs")),
            *("-append", _PARAMETERS if talkative else f"{_PARAMETERS} quiet"),
            *("-chardev", f"file,id=console,path={folder}/console", "-serial", "chardev:console"),
            *("-virtfs", f"local,path=/,mount_tag=host,{share},readonly=on,multidevs=remap"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=status,path={folder}/status"),
            *("-device", "virtserialport,chardev=status,name=xdptui.status"),
        ]
        if self.output_folder:
            path = str(self.output_folder).replace(",", ",,")
            line += ["-virtfs", f"local,path={path},mount_tag=output,{share},multidevs=remap"]
        if output is None:
            line += ["-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty"]
        else:
            line += ["-chardev", f"file,id=output,path=/dev/fd/{output}"]
            line += ["-device", "virtserialport,chardev=output,name=xdptui.output"]
        return line

    def _boot(self, folder: Path, begun: float, interactive: bool, talkative: bool) -> tuple[int, float]:
        """One boot. Returns the command's exit code and the seconds until the command started."""
        (folder / "status").touch()
        booted = time.monotonic()
        with contextlib.ExitStack() as stack:
            reader: int | None = None
            writer: int | None = None
            if interactive:
                stack.enter_context(_terminal_restored())
            else:
                reader, writer = os.pipe()
                stack.callback(os.close, reader)
            try:
                qemu = subprocess.Popen(
                    self._command_line(folder, writer, talkative),
                    stdin=None if interactive else subprocess.DEVNULL,
                    stdout=None if interactive else subprocess.DEVNULL,
                    stderr=stack.enter_context((folder / "complaints").open("w")),
                    pass_fds=[] if writer is None else [writer],
                    env={**os.environ, **self.emulator.environment},
                )
            except OSError as error:
                raise LabError(f"can't start the emulator: {error}") from error
            finally:
                if writer is not None:
                    os.close(writer)
            stack.callback(_stop, qemu)
            boot_seconds, late = self._follow(qemu, reader, folder, booted, begun)
        return self._verdict(folder, boot_seconds, late)

    def _follow(
        self, qemu: subprocess.Popen[bytes], reader: int | None, folder: Path, booted: float, begun: float
    ) -> tuple[float | None, bool]:
        """Forwards the output until the guest ends. Returns seconds until the command started, and whether
        time ran out.
        """
        boot_seconds: float | None = None
        while qemu.poll() is None or reader is not None:
            if reader is None:
                time.sleep(0.05)
            elif select.select([reader], [], [], 0.2)[0]:
                data = os.read(reader, 1 << 16)
                if not data:
                    reader = None
                printer = self.printer or sys.stdout.buffer
                printer.write(data)
                printer.flush()
            if self.stop is not None and self.stop.is_set():
                raise LabError("stopped")
            now = time.monotonic()
            if boot_seconds is None:
                if "started" in (folder / "status").read_text():
                    boot_seconds = now - booted
                elif now - booted > self.boot_timeout:
                    return None, True
            if now - begun > self.timeout:
                return boot_seconds, True
        return boot_seconds, False

    def _verdict(self, folder: Path, boot_seconds: float | None, late: bool) -> tuple[int, float]:
        said = (folder / "status").read_text().split()
        if len(said) == 3 and said[1] == "exit":
            return int(said[2]), boot_seconds or 0.0
        complaints = (folder / "complaints").read_text().strip()
        console = (folder / "console").read_text(errors="replace") if (folder / "console").exists() else ""
        hint = " Try without KVM." if self.kvm else ""
        if complaints and not (console or said or late):
            raise LabError(f"the emulator does not start.{hint} It says: {complaints}")
        evidence = (
            "\n".join([complaints, *console.splitlines()[-_CONSOLE_LINES:]]).strip() or "(it said nothing)"
        )
        name = f"the guest with kernel {self.kernel.name} ({self.kernel.release})"
        if said:
            what = f"ran out of its {self.timeout:.0f} s" if late else "died while the command ran"
            raise LabError(f"{name} {what}. Its console:\n{evidence}")
        what = (
            f"did not reach the command in {self.boot_timeout:.0f} s"
            if late
            else "died before it reached the command"
        )
        raise _NeverStarted(f"{name} {what}.{hint} Its console:\n{evidence}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """Restores the terminal's settings, which QEMU changes and does not restore when killed."""
    try:
        before = termios.tcgetattr(sys.stdin)
    except termios.error as error:
        raise LabError("an interactive guest needs a terminal") from error
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
