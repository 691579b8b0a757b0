# SPDX-License-Identifier: Apache-2.0
"""libxdp's dispatcher protocol: emit dispatchers, recognise others', and read the chains that hang on them.

`emit` loads a dispatcher, `recognise` tells whose a running one is and what its configuration says,
`attached` reads the components from its pins or its links, `installed` finds out which version of the
protocol the libxdp on this machine speaks.
"""

from __future__ import annotations

__all__ = ["MAIN"]

MAIN = "xdp_dispatcher"
"""The dispatcher's main function, and so the program's name, by which libxdp knows it."""
