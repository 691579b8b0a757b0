# SPDX-License-Identifier: Apache-2.0
"""The lines of a program that somebody else loaded are those of its object file, though the kernel shows
other instructions: helpers replaced by a map's own functions, look-ups inlined.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from xdpchain.objects.components import programs_of
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.observe.loaded_helpers import helper_of
from xdpchain.observe.running_sites import reasons_of
from xdpchain.sys.kallsyms import kernel_address
from xdpchain.testing.playground import Playground

SAMPLES = Path(__file__).parents[2] / "build/samples"
FILTERS = Path("/usr/lib/x86_64-linux-gnu/bpf")
OBJECTS = [SAMPLES / f"{name}.o" for name in ("firewall", "monitor", "ratelimit", "redirect", "mark")]
OBJECTS += [FILTERS / f"xdpfilt_{name}.o" for name in ("alw_all", "dny_all", "dny_tcp", "alw_eth")]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_they_are_those_of_the_object(playground: Playground, path: Path) -> None:
    if not path.exists():
        pytest.skip("xdp-tools is not installed")
    if kernel_address("__bpf_call_base") is None:
        pytest.skip("the kernel hides where its functions lie: kernel.kptr_restrict")
    name = programs_of(str(path)).programs[0].name
    with pinned_program(path) as pin:
        attach_pinned(playground, pin)
        (reasons,) = reasons_of(look_at(playground))
    expected = [(site.word, site.place) for site in verdicts_of(path.read_bytes(), name).sites]
    assert sorted((site.word, site.place) for site in reasons.sites) == sorted(expected)


def test_they_are_listed_where_nothing_is_counted(
    cli: CommandLine, playground: Playground, samples: Path
) -> None:
    with pinned_program(samples / "firewall.o") as pin:
        attach_pinned(playground, pin)
        text = cli("why", cli.interface).out
        if "nothing is counted" not in text:
            pytest.skip("this kernel counts programs of others")
        assert "DROP     firewall.bpf.c:44" in text
        assert "PASS     firewall.bpf.c:39" in text
        dropped = cli("why", cli.interface, "--code", "DROP").out
        assert "DROP     firewall.bpf.c:44" in dropped
        assert "PASS" not in dropped


def test_which_helper_a_function_of_the_kernel_is() -> None:
    numbers = {"redirect": 23, "redirect_map": 51, "ktime_get_ns": 5, "xdp_adjust_head": 44}
    for function, number in {
        "bpf_xdp_redirect": 23,
        "bpf_xdp_redirect_map": 51,
        "dev_map_redirect": 51,
        "__htab_map_lookup_elem": 1,
        "htab_lru_map_delete_elem": 3,
        "bpf_ktime_get_ns": 5,
        "bpf_xdp_adjust_head": 44,
        "schedule": None,
        "": None,
    }.items():
        assert helper_of(function, numbers) == number, function
