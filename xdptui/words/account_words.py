# SPDX-License-Identifier: Apache-2.0
"""The account of an interface as lines. Pure."""

from __future__ import annotations

from xdpchain.observe.account.balance import Account, Line
from xdpchain.observe.account.drivers import DriverFailure
from xdptui.words.numbers import UNKNOWN

__all__ = ["account_lines", "conclusion"]

Part = tuple[str, str]
"""A text and its style, in Textual's notation."""

DIM, HEAD, BAD, GOOD = "$foreground 65%", "bold $primary", "bold $error", "$success"
WHAT, NUMBER = 14, 15


def account_lines(account: Account, deaf: str = "") -> list[list[Part]]:
    """A list of parts for each line. ``deaf``: why failures can't be listened to, if so."""
    head = f"{'':{WHAT}}{'the chain':>{NUMBER}}{'the device':>{NUMBER}}"
    lines: list[list[Part]] = [[(head, HEAD)]]
    for place, line in enumerate(account.lines):
        lines += _line(line, indent=2 if place else 0)
    lines += [[("", "")], [conclusion(account)], [("", "")]]
    lines += [[(text, DIM)] for text in _remarks(account, deaf)]
    return lines


def _line(line: Line, indent: int) -> list[list[Part]]:
    sign, style = {True: ("=", GOOD), False: ("≠", BAD), None: (" ", DIM)}[line.agree]
    device = UNKNOWN if line.device is None else str(line.device)
    text = f"{'':{indent}}{line.what:{WHAT - indent}}{line.chain:>{NUMBER}}{device:>{NUMBER}}"
    notes = [line.note] if line.note else []
    if line.agree is False:
        notes.append(f"{abs(line.missing)} {'more' if line.missing > 0 else 'fewer'} than expected")
    return [
        [(f"{text} ", "" if line.agree is not False else BAD), (sign, style), (f" {'; '.join(notes)}", DIM)]
    ]


def conclusion(account: Account) -> Part:
    """The account's conclusion in a sentence."""
    missing = account.uncounted
    if missing > 0:
        return f"≠ {missing} packets arrived that the chain did not count", BAD
    if missing < 0:
        return f"≠ the chain counted {-missing} packets that did not arrive (test runs count too)", BAD
    if not account.agrees:
        return "≠ chain and device disagree about what happened to the packets", BAD
    if account.lines[0].agree is None:
        return "the device does not count arrivals: nothing to compare", ""
    if account.exact:
        return "= they agree exactly: nothing moved during the reading", GOOD
    return "= they agree as far as moving counters can show; exact when traffic pauses", GOOD


def _remarks(account: Account, deaf: str) -> list[str]:
    texts = []
    if account.driver:
        known = f" (names from {account.source})" if account.source else ""
        texts.append(f"driver {account.driver}{known}")
    if account.remark:
        texts.append(account.remark)
    failures = account.failures or {}
    if failures.get(DriverFailure.TX) or failures.get(DriverFailure.REDIRECT):
        texts.append(
            f"failed: {failures.get(DriverFailure.REDIRECT, 0)} redirected, "
            f"{failures.get(DriverFailure.TX, 0)} sent back"
        )
    if deaf:
        texts.append(f"failures are not monitored: {deaf}")
    if account.sent_for_others or account.unsent_for_others:
        lost = f", and lost {account.unsent_for_others}" if account.unsent_for_others else ""
        texts.append(f"it sent {account.sent_for_others} packets redirected to it{lost}")
    texts.append(f"by its own counters the interface sent {account.tx_packets}, dropped {account.rx_dropped}")
    return texts
