# SPDX-License-Identifier: Apache-2.0
"""The account of an interface: what drivers call their counters, and which are compared; pure."""

from __future__ import annotations

import re

import pytest

from xdpchain.model.counts import SlotCounts
from xdpchain.observe.account.balance import Account, AccountReading, DeviceCounts, balance, device_counts
from xdpchain.observe.account.drivers import DRIVERS, Driver, DriverFailure, driver_of
from xdpchain.observe.account.queues import QueueCounts, by_queue
from xdptui.words.account_words import account_lines, conclusion

NOTHING = {DriverFailure.TX: 0, DriverFailure.REDIRECT: 0}

NAMES = {
    "veth": (
        "peer_ifindex rx_queue_0_xdp_packets rx_queue_0_xdp_bytes rx_queue_0_drops rx_queue_0_xdp_redirect "
        "rx_queue_0_xdp_drops rx_queue_0_xdp_tx rx_queue_0_xdp_tx_errors tx_queue_0_xdp_xmit "
        "tx_queue_0_xdp_xmit_errors rx_queue_11_xdp_packets rx_queue_11_xdp_drops"
    ),
    "virtio_net": (
        "rx_drops rx_xdp_packets rx_xdp_tx rx_xdp_redirects rx_xdp_drops rx_kicks tx_xdp_tx tx_xdp_tx_drops "
        "rx0_drops rx0_xdp_packets rx0_xdp_tx rx0_xdp_redirects rx0_xdp_drops rx0_kicks tx0_xdp_tx "
        "tx0_xdp_tx_drops tx0_kicks tx0_tx_timeouts rx_queue_1_xdp_packets rx_queue_1_xdp_tx "
        "rx_queue_1_xdp_redirects rx_queue_1_xdp_drops tx_queue_1_xdp_tx tx_queue_1_xdp_tx_drops"
    ),
    "mlx5_core": (
        "rx_packets rx_xdp_errors rx_xdp_drop rx_xdp_redirect rx_xdp_tx_xmit rx_xdp_tx_mpwqe rx_xdp_tx_full "
        "rx_xdp_tx_err tx_xdp_xmit tx_xdp_full tx_xdp_err rx0_xdp_drop rx0_xdp_redirect rx_xsk_xdp_drop "
        "tx0_xdp_xmit tx0_xdp_err"
    ),
    "ena": (
        "queue_0_rx_cnt queue_0_rx_xdp_aborted queue_0_rx_xdp_drop queue_0_rx_xdp_pass queue_0_rx_xdp_tx "
        "queue_0_rx_xdp_invalid queue_0_rx_xdp_redirect queue_8_xdp_tx_cnt"
    ),
    "i40e": "rx_packets tx_packets rx-0.packets rx-0.bytes tx-0.packets rx-15.packets port.rx_bytes",
    "ice": "rx_packets rx_queue_0_packets rx_queue_0_bytes tx_queue_0_packets rx_unicast",
    "ixgbe": "rx_packets rx_queue_0_packets rx_queue_0_bytes rx_queue_63_packets tx_queue_0_packets",
}
"""Some of these drivers' names for their counters."""

COUNTED = {
    "veth": (2, [2, 2, 1], 1, 1),
    "virtio_net": (2, [2, 2, 2], 2, 2),
    "mlx5_core": (None, [2, 1, 1], 1, 1),
    "ena": (None, [1, 1, 1, 1, 1, 1], None, None),
    "i40e": (2, [], None, None),
    "ice": (1, [], None, None),
    "ixgbe": (2, [], None, None),
}
"""How many of these names count what: received, each group, sent, unsent."""


@pytest.mark.parametrize("name", DRIVERS)
def test_each_name_counts_once_and_as_what_it_is(name: str) -> None:
    driver = DRIVERS[name]
    listed = [(word, 1) for word in NAMES[name].split()]
    found = device_counts(driver, listed, (10, 20, 30), 40)
    received, groups, sent, unsent = COUNTED[name]
    assert found == DeviceCounts(10, 20, 30, 40, received, tuple(groups), sent, unsent)
    for one, _ in listed:
        assert sum(bool(re.fullmatch(pattern, one)) for pattern in driver.counters) <= 1


@pytest.mark.parametrize("driver", DRIVERS.values())
def test_the_table_is_whole(driver: Driver) -> None:
    assert driver.source.startswith("drivers/net/")
    codes = [code for group in driver.groups for code in group.codes]
    assert len(codes) == len(set(codes))
    assert driver_of("nosuch").remark


def counts(*packets: int) -> SlotCounts:
    return SlotCounts(tuple(packets), (0,) * 6)


def device(rx: int, received: int | None = None, *groups: int | None) -> DeviceCounts:
    return DeviceCounts(rx, 0, 0, 0, received, groups)


def account(
    driver: str, now: DeviceCounts, *packets: int, failures: dict[DriverFailure, int] | None = NOTHING,
    before: DeviceCounts | None = None, native: bool = True,
) -> Account:  # fmt: skip
    none = counts(0, 0, 0, 0, 0, 0)
    groups = len(driver_of(driver).groups)
    start = DeviceCounts(0, 0, 0, 0, None if now.received is None else 0, (0,) * groups)
    if not all(group is not None for group in now.groups):
        start = DeviceCounts(0, 0, 0, 0, start.received, now.groups)
    begun = AccountReading(start, none, {}, failures and dict.fromkeys(DriverFailure, 0), start)
    ended = AccountReading(before or now, counts(*packets), {}, failures, now)
    return balance(driver_of(driver), driver, begun, ended, 1.0, 2, native)


def agree(found: Account) -> list[bool | None]:
    return [line.agree for line in found.lines]


def test_what_failed_belongs_where_each_driver_counts_it() -> None:
    failed = {DriverFailure.TX: 2, DriverFailure.REDIRECT: 3}
    verdict = (1, 2, 4, 8, 16, 32)
    # veth: not included in what it redirected; virtio_net: included in the drops.
    veth = account("veth", device(63, 63, 35, 6, 13), *verdict, failures=failed)
    virtio = account("virtio_net", device(63, 63, 35 + 5, 8, 16), *verdict, failures=failed)
    mlx5 = account("mlx5_core", device(4, None, 35 + 5, 6, 13), *verdict, failures=failed)
    ena = account("ena", device(63, None, 1 + 5, 2, 4, 6, 13, 32), *verdict, failures=failed)
    for found in (veth, virtio, mlx5, ena):
        assert found.agrees, found
        assert sum(line.chain for line in found.parts) == 63
    assert agree(mlx5)[0] is None, "its rx_packets are without what XDP took"
    assert agree(account("veth", device(63, 63, 35, 8, 16), *verdict, failures=failed)).count(False) == 2


def test_packets_that_nobody_counted() -> None:
    found = account("veth", device(70, 70, 3, 0, 0), 1, 2, 60, 0, 0, 0)
    assert found.uncounted == 7
    assert conclusion(found)[0] == "≠ 7 packets arrived that the chain did not count"
    found = account("veth", device(60, 60, 3, 0, 0), 1, 2, 60, 0, 0, 0)
    assert found.uncounted == -3
    assert "test runs" in conclusion(found)[0]
    found = account("veth", device(70, 63, 3, 0, 0), 1, 2, 60, 0, 0, 0)
    assert agree(found)[:3] == [False, True, True], "seven met no program"
    assert found.uncounted == 7
    found = account("veth", device(63, 63, 4, 0, 0), 1, 2, 60, 0, 0, 0)
    assert found.uncounted == 0
    assert not found.agrees
    assert "disagree" in conclusion(found)[0]


def test_bounds_while_packets_flow() -> None:
    still = device(100, 100, 0, 0, 0)
    moving = account("veth", device(200, 200, 0, 0, 0), 0, 0, 150, 0, 0, 0, before=still)
    assert not moving.exact
    assert moving.agrees
    assert "exact when traffic pauses" in conclusion(moving)[0]
    # Two queues with a batch of 64 each may be in progress, but no more.
    assert account("veth", device(101, 101, 0, 0, 0), 0, 0, 229, 0, 0, 0, before=still).agrees
    beyond = account("veth", device(101, 101, 0, 0, 0), 0, 0, 230, 0, 0, 0, before=still)
    assert beyond.uncounted == -1


def test_without_ears_what_failed_is_not_guessed() -> None:
    found = account("veth", device(8, 8, 0, 0, 8), 0, 0, 0, 0, 8, 0, failures=None)
    assert found.agrees
    assert found.lines[4].note == "failures are not listened to"
    shown = "\n".join("".join(text for text, _ in line) for line in account_lines(found, "no such luck"))
    assert "failures are not monitored: no such luck" in shown


def test_unknown_drivers_and_generic_mode() -> None:
    for found in (account("nosuch", device(6), 1, 2, 3, 0, 0, 0),
                  account("veth", device(6, 9, 9, 9, 9), 1, 2, 3, 0, 0, 0, native=False)):  # fmt: skip
        assert [(line.what, line.chain, line.device) for line in found.lines[:2]] == [
            ("received", 6, 6),
            ("passed on", 3, None),
        ]
        assert found.agrees
        assert found.remark


@pytest.mark.parametrize("big", [0, 12, 1 << 60])
def test_lines_fit_the_smallest_screen(big: int) -> None:
    found = account("veth", device(big, big, 0, 0, 0), 0, 0, big, 0, 0, 0)
    lines = ["".join(text for text, _ in line) for line in account_lines(found)]
    assert all(len(line) <= 76 for line in lines)


def test_counters_by_queue() -> None:
    """The number in a counter's name is the queue's; totals of a whole device belong to no queue."""
    virtio = by_queue(
        driver_of("virtio_net"),
        [("rx0_xdp_packets", 9), ("rx0_xdp_drops", 4), ("rx10_xdp_packets", 2), ("rx_xdp_drops", 4)],
    )
    assert virtio == (QueueCounts(0, {"received": 9, "dropped": 4}), QueueCounts(10, {"received": 2}))
    veth = by_queue(driver_of("veth"), [("rx_queue_1_xdp_tx", 3), ("rx_queue_1_xdp_tx_errors", 2)])
    assert veth == (QueueCounts(1, {"sent back": 5}),)
    assert by_queue(driver_of("mlx5_core"), [("rx_xdp_drop", 7)]) == ()
    assert by_queue(driver_of("nobody's"), [("rx_queue_0_packets", 7)]) == ()
