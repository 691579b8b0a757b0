# SPDX-License-Identifier: Apache-2.0
"""The account of an interface with real packets: the interface and its chain count the same, to the
packet.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import inside
from tests.kernel.mishaps import listeners, redirecting, to_ifindex
from tests.kernel.tracing import ON_PASS, settled
from xdpchain.errors import NotFound, RaceLost
from xdpchain.model.actions import Action
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdpchain.observe.account import Account, Accounting, DriverFailure
from xdpchain.sys import bpf
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

NATIVE_AND_GENERIC = pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
MIXED = [scripted(bytes([code])) for code, n in ((0, 1), (1, 2), (2, 4), (3, 8), (77, 16)) for _ in range(n)]


@pytest.fixture
def net(root: None) -> Iterator[Playground]:
    with Playground(links=2, peer_takes_xdp=True) as made:
        yield made


def settle(accounting: Accounting, packets: int) -> Account:
    """The account once the chain has counted ``packets``: generic mode runs shortly after the arrival."""
    last: list[Account] = []

    def there() -> bool:
        last.append(accounting.read())
        return last[-1].exact and last[-1].lines[0].chain >= packets

    assert settled(there, 5), last[-1]
    return last[-1]


def lines(account: Account) -> dict[str, tuple[int, int | None, bool | None]]:
    return {line.what: (line.chain, line.device, line.agree) for line in account.lines}


def test_every_packet_is_found_on_both_sides(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    net.send(MIXED)  # before the account begins
    with Accounting(running) as accounting:
        assert lines(accounting.read())["received"] == (0, 0, True)
        net.send(MIXED)
        account = settle(accounting, len(MIXED))
        assert lines(account) == {
            "received": (31, 31, True),
            "met XDP": (31, 31, True),
            "dropped": (19, 19, True),
            "sent back": (8, 8, True),
            "redirected": (0, 0, True),
            "passed on": (4, None, None),
        }
        assert account.agrees
        assert account.exact
        assert (account.uncounted, account.tx_packets, account.driver) == (0, 8, "veth")
        assert sum(line.chain for line in account.parts) == account.lines[0].chain
        assert account.outcomes == (1, 2, 4, 8, 0, 16)


def test_generic_mode_is_compared_with_what_the_interface_received(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC, Mode.GENERIC))
    with Accounting(running) as accounting:
        net.send(MIXED)
        account = settle(accounting, len(MIXED))
    assert lines(account)["received"] == (31, 31, True)
    assert lines(account)["sent back"] == (8, None, None)
    assert sum(line.chain for line in account.parts) == 31
    assert account.agrees


@NATIVE_AND_GENERIC
def test_failed_redirects_are_told_apart(net: Playground, mode: Mode) -> None:
    running = redirecting(net, "by_ifindex", mode)
    with Accounting(running) as accounting:
        net.send([to_ifindex(net.links[1].ifindex)] * 5 + [to_ifindex(4711)] * 3)
        account = settle(accounting, 8)
    assert account.failures == {DriverFailure.REDIRECT: 3, DriverFailure.TX: 0}
    assert lines(account)["redirected"] == ((8, 5, True) if mode is Mode.NATIVE else (8, None, None))
    assert account.agrees


def test_the_target_of_redirects_has_an_account_too(net: Playground, samples: Path) -> None:
    redirecting(net, "by_ifindex")
    target = change(net, chain_of(samples, "pass"), link=1)
    with Accounting(target) as accounting:
        net.send([to_ifindex(net.links[1].ifindex)] * 5)
        account = accounting.read()
    assert (account.sent_for_others, account.unsent_for_others, account.tx_packets) == (5, 0, 5)


def test_a_peer_that_takes_nothing_back(root: None, samples: Path) -> None:
    with Playground() as net:
        running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
        with Accounting(running) as accounting:
            net.send([scripted(bytes([Action.TX]))] * 6)
            account = settle(accounting, 6)
    assert lines(account)["sent back"] == (6, 6, True)
    assert account.agrees


def test_packets_that_did_not_come_in_are_noticed(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    with Accounting(running) as accounting:
        net.send(MIXED)
        run_through(running, scripted(bytes([Action.PASS])))
        account = settle(accounting, len(MIXED) + 1)
    assert not account.agrees
    assert account.uncounted == -1
    assert lines(account)["received"] == (32, 31, False)


def test_packets_that_the_chain_does_not_count_are_noticed(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    with Accounting(running) as accounting, Netlink(net.netns) as netlink:
        net.send(MIXED[:10])
        # For three packets the hook is empty; then the chain's program is back.
        assert running.hook is not None

        with bpf.prog_by_id(running.hook.prog_id) as program:
            netlink.attach_xdp(net.ifindex, -1, "native", program)
            net.send([scripted(b"\2")] * 3)
            netlink.attach_xdp(net.ifindex, program, "native", None)
        net.send(MIXED[10:])
        account = accounting.read()
    assert lines(account)["received"] == (31, 34, False)
    assert lines(account)["met XDP"] == (31, 31, True)
    assert account.uncounted == 3


def test_under_traffic_it_agrees_within_bounds_and_exactly_afterwards(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    stop = threading.Event()
    sent = []

    def send() -> None:
        while not stop.is_set() and len(sent) < 200:
            sent.append(net.send(MIXED))

    with Accounting(running) as accounting:
        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(20):
                assert accounting.read().agrees
        finally:
            stop.set()
            sender.join()
        account = settle(accounting, sum(sent))
    assert lines(account)["received"] == (sum(sent), sum(sent), True)
    assert account.exact
    assert account.agrees


def test_it_goes_on_through_edits_and_ends_with_the_counters(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    with Accounting(running) as accounting:
        net.send(MIXED)
        running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
        accounting.follow(running)
        net.send(MIXED)
        assert lines(settle(accounting, 62))["received"] == (62, 62, True)
        emptied = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC, counters=False))
        with pytest.raises(RaceLost, match="Begin again"):
            accounting.follow(emptied)


@pytest.mark.vm
def test_a_freplace_chain_has_an_account_too(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS] * 2, Linkage.FREPLACE))
    with Accounting(running) as accounting:
        net.send([scripted(bytes([2, code])) for code in (1, 2, 2, 1, 1)])
        account = settle(accounting, 5)
    assert lines(account)["received"] == (5, 5, True)
    assert lines(account)["dropped"] == (3, 3, True)


def test_nothing_runs_nothing_counts(net: Playground, samples: Path) -> None:
    before = listeners()
    with pytest.raises(NotFound, match="no XDP program runs there"):
        Accounting(look_at(net))
    assert settled(lambda: listeners() <= before)


def test_statistics_are_those_of_ethtool(net: Playground, samples: Path) -> None:
    change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    net.send(MIXED)
    told = inside(net, "ethtool", "-S", net.ifname)
    expected = [(name, int(value)) for name, value in re.findall(r"^ +(\S+): (\d+)$", told, re.MULTILINE)]
    assert expected
    with Netlink(net.netns) as netlink:
        assert list(netlink.statistics(net.ifindex)) == expected
        assert netlink.statistics(1) == ()
        with pytest.raises(NotFound):
            netlink.statistics(4711)


@pytest.fixture
def cli(net: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    return CommandLine(net, capsys, samples)


def test_the_command(cli: CommandLine) -> None:
    cli.load("pass")
    process = cli.process(
        "account", "xdp0", "--json", "--interval", "0.5", "--count", "3",
        run=subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert json.loads(process.stdout.readline())["lines"][0]["chain"] == 0  # it has begun
    cli.playground.send(MIXED)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["name"], last["exact"], last["agrees"], last["uncounted"]) == ("xdp0", True, True, 0)
    assert last["lines"][0] == {
        "what": "received", "chain": 31, "device": 31, "expected": 31, "low": 31, "high": 31,
        "agree": True, "note": "",
    }  # fmt: skip
    assert last["verdict"]["XDP_PASS"] == 31
    table = cli("account", "xdp0", "--interval", "0.1", "--count", "1").out
    assert "they agree exactly" in table
    assert "names from drivers/net/veth.c" in table
    assert cli("account", "xdp1", "--count", "1").code == 5
    assert cli("account", "nothere0").code == 5
