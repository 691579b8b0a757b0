# SPDX-License-Identifier: Apache-2.0
"""The kernel lab: this machine's files under a stock Debian kernel, emulated by QEMU.

Needs only the standard library, so that it runs before the virtual environment exists:

- :mod:`vmlab.archive`: packages of any Debian suite, without installing them
- :mod:`vmlab.cache`: where they are unpacked, and who may write there
- :mod:`vmlab.kernels`: which kernel comes from which suite
- :mod:`vmlab.emulator`: a QEMU that is good enough
- :mod:`vmlab.initramfs`: what the kernel starts with
- :mod:`vmlab.guest`: one boot, one command, its output and its exit code
- :mod:`vmlab.fetch_command`, :mod:`vmlab.boot_command`, :mod:`vmlab.run_command`: the three programs
"""
