# SPDX-License-Identifier: Apache-2.0
"""Commit-confirmed: a change that rolls back automatically unless it is confirmed in time.

`editing.apply(plan, confirm=seconds)` arms one; `by_hand.confirm` and `by_hand.roll_back` decide it;
`discover.look` and `discover.survey` report pending changes (`Running.pending`). The old dispatcher, its
components and maps stay alive until then, so a rollback is a single swap and loses nothing.
"""

MADE = b"made"
"""The message to the guardian when everything was swapped in."""
