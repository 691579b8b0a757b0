# SPDX-License-Identifier: Apache-2.0
"""The program `xdptui`: a terminal program and a command line on top of the engine `xdpchain`."""

from __future__ import annotations

__all__: list[str] = []
