#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first process once the host's files are in place: runs lab/command, reports its exit code, powers off.
# With `systemd` it runs lab/before, then makes systemd PID 1, and the command one of its services.
# `started` and `exit N` go through the virtio port xdptui.status, the command's output through xdptui.output.

lab=/run/xdptui-lab
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

modules='' output_folder='' interactive='' terminal_size='' systemd=''
# shellcheck source=/dev/null
. "$lab/settings" # sets these five

port() { # the port's device, which appears a moment after its driver
    tries=100
    while [ $tries -gt 0 ]; do
        for entry in /sys/class/virtio-ports/*; do
            if [ -r "$entry/name" ] && [ "$(cat "$entry/name")" = "$1" ] && [ -c "/dev/${entry##*/}" ]; then
                echo "/dev/${entry##*/}"
                return
            fi
        done
        tries=$((tries - 1))
        sleep 0.1
    done
    echo "kernel lab: there is no port $1" >/dev/console
    echo /dev/console
}
status=$(port xdptui.status)

mkdir -p /lib/modules
mount --bind "$modules" /lib/modules
if [ -n "$output_folder" ]; then
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none output "$output_folder"
fi
hostname xdptui-lab
ip link set lo up
prlimit --pid $$ --memlock=unlimited --nofile=65536

cat >"$lab/finish" <<END
echo "exit \$1" >$status
sync
$lab/busybox poweroff -f
END

if [ -n "$systemd" ]; then
    # The command is a service that starts last. The guest has none of this machine's disks, and its /tmp, which systemd
    # would empty or cover, holds what the command needs.
    rm -f /etc/fstab
    output=$(port xdptui.output)
    units=/run/systemd/system
    mkdir -p "$units/xdptui-lab.target.wants"
    for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer tmp.mount; do
        ln -s /dev/null "$units/$unit"
    done
    printf '%s\n' '[Unit]' 'Requires=basic.target network-pre.target xdptui-lab.service' \
        >"$units/xdptui-lab.target"
    printf '%s\n' '[Unit]' 'After=basic.target network-pre.target' '[Service]' 'Type=oneshot' \
        "ExecStart=/bin/sh -c 'sh $lab/command </dev/null >$output 2>&1; exec sh $lab/finish \$\$?'" \
        >"$units/xdptui-lab.service"
    sh "$lab/before" </dev/null >"$output" 2>&1 || exec sh "$lab/finish" 125
    echo started >"$status"
    exec /lib/systemd/systemd --unit=xdptui-lab.target
fi

echo started >"$status"
if [ -n "$interactive" ]; then
    exec </dev/hvc0 >/dev/hvc0 2>&1
    # shellcheck disable=SC2086 # two numbers
    [ -z "$terminal_size" ] || { set -- $terminal_size && stty rows "$1" cols "$2"; }
    setsid --ctty --wait sh "$lab/command"
else
    output=$(port xdptui.output)
    setsid --wait sh "$lab/command" </dev/null >"$output" 2>&1
fi
exec sh "$lab/finish" $?
