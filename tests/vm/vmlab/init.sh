#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first process: gets from the initramfs to the host's files, then hands over to lab/stage2.
# Its output goes to the console, which is shown if a guest fails.

die() {
    echo "kernel lab: $*"
    exit 1 # the kernel panics when its first process ends, and QEMU ends with it
}
mnt() { # mnt TYPE SOURCE TARGET [OPTIONS]
    mount -t "$1" ${4:+-o "$4"} "$2" "$3" || die "can't mount $2 on $3"
}
/bin/busybox --install -s /bin
export PATH=/bin

mnt proc proc /proc
mnt sysfs sysfs /sys
mnt devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module" || die "can't load $module"
done </modules/order

# The host's root, read-only, under a memory overlay that takes all writes.
share=trans=virtio,version=9p2000.L,msize=512000
mnt 9p host /host "ro,cache=loose,$share"
mnt tmpfs layer /layer size=75%,mode=755
mkdir /layer/upper /layer/work
mnt overlay root /root lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work

for system in proc sys dev; do
    mount -o move "/$system" "/root/$system" || die "can't move /$system"
done
mkdir -p /root/dev/pts /root/dev/shm /root/run
mnt devpts devpts /root/dev/pts mode=620,ptmxmode=666
mnt tmpfs shm /root/dev/shm mode=1777
mnt tmpfs run /root/run mode=755
mkdir /root/run/lock
mnt bpf bpf /root/sys/fs/bpf mode=700
mnt debugfs debugfs /root/sys/kernel/debug
mnt tracefs tracefs /root/sys/kernel/tracing

cp -r /lab /root/run/xdptui-lab
cp /bin/busybox /root/run/xdptui-lab/
exec switch_root /root /bin/sh /run/xdptui-lab/stage2
