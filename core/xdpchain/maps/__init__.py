# SPDX-License-Identifier: Apache-2.0
"""Maps as tables: keys and values typed by BTF, read page by page and changed one element at a time.

`layout`, `values`, `text` and `kinds` are pure; `table` and `listing` ask the kernel.
"""

from __future__ import annotations

from .documents import entry_document, summary_document
from .entries import Cursor, EntryChange, Page, Shape, TableEntry, cpu_text, matches
from .listing import MapSummary, map_refs, maps_of, open_map
from .table import MapTable
from .text import assignment
from .values import Plain

__all__ = [
    "Cursor",
    "EntryChange",
    "MapSummary",
    "MapTable",
    "Page",
    "Plain",
    "Shape",
    "TableEntry",
    "assignment",
    "cpu_text",
    "entry_document",
    "map_refs",
    "maps_of",
    "matches",
    "open_map",
    "summary_document",
]
