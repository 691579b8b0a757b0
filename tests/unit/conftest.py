# SPDX-License-Identifier: Apache-2.0
"""Hypothesis settings."""

from __future__ import annotations

from hypothesis import settings

# An example may take long if other work needs the processor, such as the lab next to us.
settings.register_profile("beside other work", deadline=None)
settings.load_profile("beside other work")
