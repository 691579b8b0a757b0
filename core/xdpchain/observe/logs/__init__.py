# SPDX-License-Identifier: Apache-2.0
"""What programs print: with bpf_printk() (`printk`), and to their BPF streams (`streams`)."""

from __future__ import annotations

from .listening import Logs
from .said import Output, Said

__all__ = ["Logs", "Output", "Said"]
