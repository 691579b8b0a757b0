# SPDX-License-Identifier: Apache-2.0
"""A component that throws (bpf_throw) leaves its program from any depth. Where the chain is that program, or
continues from the component's exits, it is refused; with freplace the exception ends the component alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import change, look_at, run_through
from tests.kernel.tracing import INCLUDE
from tests.objects.compile import EVERYTHING, compile_file
from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import LinkRefused
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.objects.kernel_calls import THROW, kernel_calls
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.observe.counters import open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.render.verdicts_text import verdicts_document, verdicts_text

NO_EXCEPTIONS = "this kernel has no bpf_throw (6.7 on)"
needs_exceptions = pytest.mark.skipif(
    " T bpf_throw\n" not in Path("/proc/kallsyms").read_text(), reason=NO_EXCEPTIONS
)


@pytest.fixture(scope="module")
def throwing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objects") / "throwing.o"
    path.write_bytes(compile_file(EVERYTHING.with_name("throwing.bpf.c"), INCLUDE))
    return path


def chain(throwing: Path, samples: Path, linkage: Linkage, name: str = "throwing") -> Chain:
    """The program, which continues after XDP_DROP, then one that counts."""
    first = Slot.of(load_component(str(throwing), name=name), 1, ActionSet.parse("DP"))
    return Chain(linkage=linkage).add(first).add(Slot.of(load_component(str(samples / "counter.o")), 2))


def test_its_verdicts_are_not_said_to_be_all(throwing: Path) -> None:
    words = "or ends with a code that it throws (bpf_throw)"
    throws, harmless = (verdicts_of(throwing.read_bytes(), name) for name in ("throwing", "harmless"))
    assert words in verdicts_text(throws)
    assert verdicts_text(harmless).startswith("harmless: always passes\n")
    assert [one["throws"] for one in verdicts_document([throws, harmless])["programs"]] == [True, False]


def test_it_is_found_in_the_functions_that_a_program_calls(throwing: Path) -> None:
    data = throwing.read_bytes()
    assert kernel_calls(data, "throwing") == {THROW}
    assert kernel_calls(data, "harmless") == frozenset()


@needs_exceptions
@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_refused_where_it_would_leave_the_chain(
    playground: Playground, samples: Path, throwing: Path, linkage: Linkage
) -> None:
    with pytest.raises(LinkRefused, match="bpf_throw") as caught:
        change(playground, chain(throwing, samples, linkage))
    todo = caught.value.todo
    assert isinstance(todo, Advice)
    assert (todo.do, todo.otherwise) == (Do.MEND, advise(Do.CHOOSE_LINKAGE, "freplace"))
    assert look_at(playground).hooks == ()
    other = change(playground, chain(throwing, samples, linkage, "harmless"))
    assert run_through(other, scripted(b"\2")).code == 2


@needs_exceptions
@pytest.mark.vm
def test_under_freplace_it_ends_the_slot_alone(playground: Playground, samples: Path, throwing: Path) -> None:
    running = change(playground, chain(throwing, samples, Linkage.FREPLACE))
    assert running.chain is not None
    first, second = (slot.key for slot in running.chain)
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        for code, verdict in ((1, 2), (128 + 1, 2), (3, 3), (128 + 3, 3)):
            assert run_through(running, scripted(bytes([code])), arrived=True).code == verdict
        after = reader.read()
    assert sum(after.slots[first].since(before.slots[first]).packets) == 4
    assert sum(after.slots[second].since(before.slots[second]).packets) == 2
