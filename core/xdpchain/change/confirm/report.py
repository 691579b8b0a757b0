# SPDX-License-Identifier: Apache-2.0
"""The guardian's messages to the system log (journald or syslog, through /dev/log): its only output once the
session is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket

from xdpchain.model.pending_change import ConfirmOutcome, Outcome, PendingChange

__all__ = ["Report"]

LOG = "/dev/log"
LOG_DAEMON, LOG_ERR, LOG_WARNING = 3 << 3, 3, 4


class Report:
    """A socket to the log, created in advance since nothing can be loaded later."""

    def __init__(self, pending: PendingChange) -> None:
        self._where = f"{pending.ifname} (ifindex {pending.ifindex}, netns inode {pending.inode})"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(self, settled: ConfirmOutcome) -> None:
        """Send a message in RFC 3164 format; lost if the log is absent or stuck."""
        level = LOG_ERR if settled.outcome is Outcome.FAILED else LOG_WARNING
        text = f"{self._where}: {settled.text}. The change was made by {settled.author}"
        message = f"<{LOG_DAEMON | level}>xdptui-guardian[{os.getpid()}]: {text}"
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(errors="replace"), LOG)
