# SPDX-License-Identifier: Apache-2.0
"""Programs in maps, and what they returned, as lines and as JSON."""

from __future__ import annotations

from xdpchain.observe.behind import Behind
from xdptui.render.watch_text import behind_documents, behind_rows
from xdptui.words.rates import Rates
from xdptui.workers.behind_meter import BehindReading

PORT = Behind("ports", 7, "devmap", 2, 41, "egress", 3)
COUNTS = Rates((0, 3, 2, 0, 0, 0), (0, 180, 120, 0, 0, 0))
PER_SECOND = Rates((0.0, 1.5, 1.0, 0.0, 0.0, 0.0), (0.0, 90.0, 60.0, 0.0, 0.0, 0.0))


def test_each_program_has_its_counts_or_the_reason() -> None:
    array = Behind("root_array", 8, "prog_array", 5, 42, "balancer")
    rows = behind_rows(
        [
            BehindReading(PORT, COUNTS, PER_SECOND),
            BehindReading(array, why="what it returns counts elsewhere"),
        ]
    )
    assert rows[0] == "  behind it: ports[2] → egress (id 41), before the device with ifindex 3"
    assert rows[1].split() == ["returned", "2", "0", "2", "1", "0", "0", "150", "5"]
    assert rows[2:] == [
        "  behind it: root_array[5] → balancer (id 42), by tail call",
        "    not counted: what it returns counts elsewhere",
    ]


def test_only_the_first_are_listed_and_all_are_in_the_document() -> None:
    readings = [BehindReading(PORT, COUNTS)] * 11
    assert behind_rows(readings)[-1] == "  and 3 more programs"
    documents = behind_documents(readings)
    assert len(documents) == 11
    assert documents[0]["counters"]["XDP_DROP"] == {"packets": 3, "bytes": 180}
    assert (documents[0]["rates"], documents[0]["not_counted"]) == (None, "")
