# SPDX-License-Identifier: Apache-2.0
"""The account of an interface as a table and as a document. Pure."""

from __future__ import annotations

from typing import Any

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.interface import Interface
from xdpchain.observe.account.balance import Account
from xdptui.words.account_words import account_lines
from xdptui.words.printable import printable

__all__ = ["account_document", "account_table"]


def account_table(interface: Interface, account: Account, deaf: str) -> str:
    """The table, its conclusion, and remarks."""
    lines = ("".join(text for text, _ in parts).rstrip() for parts in account_lines(account, deaf))
    return "\n".join((printable(f"{interface}, in {account.seconds:.1f} s"), *map(printable, lines)))


def account_document(interface: Interface, account: Account, deaf: str) -> dict[str, Any]:
    """A line of JSON."""
    names = (*(action.xdp_name for action in ALL_ACTIONS), "other")
    return {
        "name": interface.name,
        "ifindex": interface.ifindex,
        "netns": interface.netns,
        "seconds": round(account.seconds, 6),
        "exact": account.exact,
        "agrees": account.agrees,
        "uncounted": account.uncounted,
        "lines": [
            {
                "what": line.what,
                "chain": line.chain,
                "device": line.device,
                "expected": line.expected,
                "low": line.low,
                "high": line.high,
                "agree": line.agree,
                "note": line.note,
            }
            for line in account.lines
        ],
        "verdict": dict(zip(names, account.outcomes, strict=True)),
        "failures": account.failures and {kind.value: lost for kind, lost in account.failures.items()},
        "deaf": deaf,
        "driver": account.driver,
        "source": account.source,
        "remark": account.remark,
        "rx_dropped": account.rx_dropped,
        "tx_packets": account.tx_packets,
        "sent_for_others": account.sent_for_others,
        "unsent_for_others": account.unsent_for_others,
    }
