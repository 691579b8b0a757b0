# SPDX-License-Identifier: Apache-2.0
"""Commit-confirmed: a change that rolls back by itself unless somebody confirms it in time.

`editing.apply(plan, confirm=seconds)` arms one; `deciding.confirm` and `deciding.roll_back` decide it;
`discover.look` and `discover.survey` say of each interface whether one waits (`Running.armed`). The old
dispatcher, its components and maps live on until then, so going back is one swap, and loses nothing.
"""

MADE = b"made"
"""What the maker of a change tells its guardian when all was swapped in."""
