# SPDX-License-Identifier: Apache-2.0
"""libxdp's dispatcher protocol: emit dispatchers, recognise those of others, read the chains behind them.

`emit` loads a dispatcher, `recognise` tells whose a running one is and what its configuration says,
`attached` reads the components from its pins or links, `installed` finds out which protocol version this
machine's libxdp uses.
"""

from __future__ import annotations

__all__ = ["MAIN"]

MAIN = "xdp_dispatcher"
"""The dispatcher's main function, and so the program name by which libxdp recognises it."""
