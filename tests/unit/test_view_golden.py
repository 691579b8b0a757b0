# SPDX-License-Identifier: Apache-2.0
"""Whole panes, character by character: a chain with a candidate at 80 and at 120 columns."""

from __future__ import annotations

from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdptui.view.chain_lines import ChainView, columns, heading, slot_lines
from xdptui.view.interface_lines import InterfaceView, interface_line
from xdptui.view.interface_lines import heading as interface_heading
from xdptui.view.session import Session, Shown
from xdptui.view.waterfall import flow
from xdptui.view.waterfall_lines import waterfall_lines
from xdptui.widgets.banner import banner_line
from xdptui.words.rates import Rates, Reading


def slot(name: str, priority: int, number: int) -> Slot:
    component = Component(name, id=number, declared=RunConfig(priority))
    return Slot(component, RunConfig(priority), key=name)


BASE = Chain((slot("xdp_firewall", 10, 101), slot("xdp_ratelimit", 20, 102), slot("xdp_monitor", 90, 103)))
CANDIDATE = BASE.move(0, 1).retune(0, actions=ActionSet.parse("DP")).remove([2])
WAN = Running(
    Device(Interface("wan0", 4), True, "up", 1500, "ixgbe", frozenset({"basic", "redirect", "ndo-xmit"})),
    (Hook(Mode.NATIVE, 109, "xdptui_chain", "0123456789abcdef"),),
    Owner.XDPTUI,
    BASE.linkage,
    DispatcherInfo(109, 3),
    BASE,
    7,
)
LAN = Running(Device(Interface("lan0", 5), True, "up", 1500, "ixgbe", None))


def rates(*packets: float) -> Rates:
    return Rates(tuple(packets), tuple(500 * value for value in packets))


READING = Reading(
    1.0,
    {"xdp_firewall": rates(0, 9e4, 2e6, 0, 0, 0), "xdp_ratelimit": rates(3, 0, 2e6, 0, 0, 0)},
    {"xdp_firewall": rates(0, 40, 1200, 0, 0, 0), "xdp_ratelimit": rates(0, 200, 1000, 0, 0, 0)},
    rates(3, 9e4, 2e6, 0, 0, 0),
    rates(0, 240, 1000, 0, 0, 0),
)


def screen(width: int) -> list[str]:
    """Banner, interfaces, chain and waterfall, as lines."""
    session = Session().surveyed_as([WAN, LAN]).edited(CANDIDATE, 0)
    cols = columns(width)
    view = ChainView(
        CANDIDATE, BASE, session.removed, True, READING, {"xdp_firewall": (1.0, 2.0, 4.0, 8.0)}, focused=True
    )
    lines = [banner_line(session, width), interface_heading(width, "")]
    lines.append(interface_line(InterfaceView(WAN, True, 1240.0), width, True, False))
    lines.append(interface_line(InterfaceView(LAN), width, False, False))
    lines.append(heading(cols, Shown.PACKET_RATE, True))
    lines += [line for group in slot_lines(view, cols, True) for line in group]
    assert READING.verdict_rates is not None
    lines += waterfall_lines(flow(BASE, READING.rates, READING.verdict_rates), width, 9)
    return [line.text for line in lines]


AT_80 = """\
 xdptui  wan0 native · static · dispatcher 109            CANDIDATE (3 changes)
  interface       link mode    owner   chain       pkt/s driver   features
▶*wan0            up   native  xdptui  3 static    1.24k ixgbe    basic redirec…
  lan0            up   -       free                    - ixgbe    ?
   #  prio name           A D P T R       A     D     P     T     R   all  trend
▶~ 0    20 xdp_ratelimit  · D*P · ·       0   200 1.00k     0     0 1.20k
                            packets       3     0 2.00M     0     0 2.00M 1.00GB
 ↕ 1    55*xdp_firewall   · · P · ·       0    40 1.20k     0     0 1.24k   ▁▂▄█
                            packets       0 90.0k 2.00M     0     0 2.09M 1.04GB
 -      90 xdp_monitor    removed, not yet applied
 received                  1.24k █████████████████████ 100%
 → after 0 xdp_firewall    1.20k ████████████████████▍  97%  D 40
 → after 1 xdp_ratelimit   1.00k ████████████████▉      81%  D 200
 → after 2 xdp_monitor         0                         0%
 = P passed                1.00k ████████████████▉      81%
 = D dropped                 240 ████▏                  19%
 = T sent                      0                         0%
 = R redirected                0                         0%
 = A aborted                   0                         0%
"""

AT_120 = """\
 xdptui  wan0 native · static linkage · dispatcher 109                                            CANDIDATE (3 changes)
  interface          link  mode    owner   chain                       pkt/s driver      features
▶*wan0               up    native  xdptui  3 slots static, id 109      1.24k ixgbe       basic redirect xmit
  lan0               up    -       free                                    - ixgbe       ?
   #  prio name                       A D P T R       A     D     P     T     R   all  bytes     id     trend, packets/s
▶~ 0    20 xdp_ratelimit              · D*P · ·       0   200 1.00k     0     0 1.20k   600k    102
                                        packets       3     0 2.00M     0     0 2.00M  1.00G
 ↕ 1    55*xdp_firewall               · · P · ·       0    40 1.20k     0     0 1.24k   620k    101                 ▁▂▄█
                                        packets       0 90.0k 2.00M     0     0 2.09M  1.04G
 -      90 xdp_monitor                removed, not yet applied
 received                        1.24k ███████████████████████████████████████ 100%
 → after 0 xdp_firewall          1.20k █████████████████████████████████████▊   97%  D 40
 → after 1 xdp_ratelimit         1.00k ███████████████████████████████▌         81%  D 200
 → after 2 xdp_monitor               0                                           0%
 = P passed                      1.00k ███████████████████████████████▌         81%
 = D dropped                       240 ███████▌                                 19%
 = T sent                            0                                           0%
 = R redirected                      0                                           0%
 = A aborted                         0                                           0%
"""  # noqa: E501


def test_at_80_columns() -> None:
    assert [line.rstrip() for line in screen(80)] == AT_80.splitlines()
    assert {len(line) for line in screen(80)} == {80}


def test_at_120_columns() -> None:
    assert [line.rstrip() for line in screen(120)] == AT_120.splitlines()
    assert {len(line) for line in screen(120)} == {120}
