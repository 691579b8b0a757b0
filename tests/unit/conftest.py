# SPDX-License-Identifier: Apache-2.0
"""How properties are tried."""

from __future__ import annotations

from hypothesis import settings

# A single example may take long where other work wants the processor: the lab beside us, for one.
settings.register_profile("beside other work", deadline=None)
settings.load_profile("beside other work")
