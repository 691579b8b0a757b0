# SPDX-License-Identifier: Apache-2.0
"""The shipped unit, under a systemd that is PID 1 of a guest: from boot on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BEFORE = """\
set -e
mkdir -p /etc/xdptui
cat >/usr/bin/xdptui <<'END'
#!/bin/sh
PYTHONPATH={root}/core:{root} exec {python} -m xdptui "$@"
END
chmod 755 /usr/bin/xdptui
cp {root}/contrib/systemd/xdptui.service /run/systemd/system/
ln -s ../xdptui.service /run/systemd/system/xdptui-lab.target.wants/
for name in up late; do
    printf '[[interface]]\\nname = "%s0"\\nlinkage = "static"\\n' $name
    printf '[[interface.slot]]\\nobject = "%s"\\n' {samples}/pass.o
done >/etc/xdptui/spec.toml
ip link add up0 type veth peer name up1
"""

COMMAND = """\
until_true() {{ # until_true WHAT COMMAND...: wait, and say how long it took
    what=$1 begun=$(cut -d' ' -f1 /proc/uptime)
    shift
    for try in $(seq 600); do
        if "$@"; then
            echo "$what: $(cut -d' ' -f1 /proc/uptime | sed "s/$/ $begun/" | awk '{{print $1 - $2}}') s"
            return
        fi
        sleep 0.2
    done
    echo "$what: never"
    journalctl --no-pager -u xdptui.service
    exit 1
}}
id_of() {{ ip -details link show dev "$1" 2>/dev/null | sed -n 's/.*prog\\/xdp id \\([0-9]*\\).*/\\1/p'; }}
runs() {{ [ -n "$(id_of "$1")" ]; }}
other() {{ runs "$1" && [ "$(id_of "$1")" != "$2" ]; }}
value() {{ systemctl show --value -p "$1" "${{2:-xdptui.service}}"; }}
restarted() {{ [ "$(value NRestarts)" = 1 ] && [ "$(value ActiveState)" = active ]; }}

echo "first process: $(cat /proc/1/comm)"
echo "state: $(value ActiveState)"
echo "ready, us: $(value ActiveEnterTimestampMonotonic) after $(value ExecMainStartTimestampMonotonic)"
echo "network-pre, us: $(value ActiveEnterTimestampMonotonic network-pre.target)"
runs up0 && echo "up0 runs at boot"

ip link add late0 type veth peer name late1
until_true "appeared" runs late0
ip link del late0
ip link add late0 type veth peer name late1
until_true "made again" runs late0

old=$(id_of up0)
sed -i s/pass.o/drop.o/ /etc/xdptui/spec.toml
systemctl reload xdptui.service
until_true "reloaded" other up0 "$old"

old=$(id_of up0)
kill -KILL "$(value MainPID)"
until_true "restarted" restarted
[ "$(id_of up0)" = "$old" ] && echo "the chain was left alone"

systemctl stop xdptui.service
echo "stopped: $(value ActiveState) $(value Result) $(value ExecMainStatus)"
[ "$(id_of up0)" = "$old" ] && echo "the chain outlives the service"
journalctl --no-pager -u xdptui.service | grep -c Traceback
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_unit_from_boot_to_stop(samples: Path, tmp_path: Path) -> None:
    given = {"root": ROOT, "python": sys.executable, "samples": samples}
    (tmp_path / "before").write_text(BEFORE.format(**given))
    (tmp_path / "command").write_text(COMMAND.format(**given))
    boot = (
        str(ROOT / "tests/vm/boot"),
        "--timeout",
        "400",
        "--systemd",
        str(tmp_path / "before"),
        "6.1",
        "sh",
        str(tmp_path / "command"),
    )
    done = subprocess.run(boot, capture_output=True, text=True, timeout=600)
    said = done.stdout
    print(said)
    assert "first process: systemd\nstate: active\n" in said, said + done.stderr
    ready, begun, network = map(int, re.findall(r"us: (\d+)(?: after (\d+))?\n.*us: (\d+)", said)[0])
    assert begun < ready < network, "the chains run before the network is configured"
    assert "up0 runs at boot" in said
    for what in ("appeared", "made again", "reloaded", "restarted"):
        assert re.search(rf"^{what}: [0-9.]+ s$", said, re.MULTILINE), said
    assert (
        "the chain was left alone\nstopped: inactive success 0\nthe chain outlives the service\n0\n" in said
    )
