# SPDX-License-Identifier: Apache-2.0
"""Shadow in the terminal program: the key, the marks, and counts of real packets."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.chains import scripted_chain
from tests.tui.driving import change, driving, look_at
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.view.session import BannerState

PASS_ON = ActionSet.parse("P")


async def test_a_slot_goes_into_shadow_and_says_what_it_would_do(
    playground: Playground, samples: Path
) -> None:
    change(playground, lambda _: scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
        await driver.press("S")
        assert driver.session.chain.slots[0].shadow
        assert not any(slot.shadow for slot in look_at(playground).chain or ())
        assert " 0S" in driver.lines("chain")[1]
        assert any("once applied" in line for line in driver.lines("inspector"))
        playground.send([scripted(b"\1\2")] * 3)  # these it still drops
        await driver.until(lambda: "0     3" in driver.lines("chain")[2])
        assert not any("would drop" in line for line in driver.lines("chain"))
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
        assert [slot.shadow for slot in look_at(playground).chain or ()] == [True, False]
        playground.send([scripted(b"\1\2")] * 3 + [scripted(b"\2\2")] * 197)
        words = "would have dropped 1.5 % (3 of 200 packets)"
        await driver.until(lambda: any(words in line for line in driver.lines("inspector")))
        await driver.until(lambda: any("would drop 1.5 %" in line for line in driver.lines("chain")))
        await driver.press("S")
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
        assert [slot.shadow for slot in look_at(playground).chain or ()] == [False, False]
