# SPDX-License-Identifier: Apache-2.0
"""The program `xdptui`: the terminal and command line faces of the engine `xdpchain`."""

from __future__ import annotations

__all__: list[str] = []
