# SPDX-License-Identifier: Apache-2.0
"""A playground with real packets: ``python -m xdptui.demo``. Tests use parts of it."""

from __future__ import annotations

__all__: list[str] = []
