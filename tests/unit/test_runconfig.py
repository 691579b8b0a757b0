# SPDX-License-Identifier: Apache-2.0
"""Run configurations and versions, as programs declare them in BTF"""

from __future__ import annotations

import pytest

from tests.unit.btf_blob import Blob, run_config
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ALL_ACTIONS, Action, ActionSet
from xdpchain.model.runconfig import DEFAULT_PRIORITY, MAX_PRIORITY, RunConfig
from xdpchain.objects.btf import Btf, BtfError
from xdpchain.objects.runconfig_btf import read_metadata_version, read_run_configs


def configs(blob: Blob, *variables: int) -> dict[str, RunConfig]:
    blob.section(".xdp_run_config", *variables)
    return read_run_configs(Btf.parse(bytes(blob)))


# -- the value -----------------------------------------------------------------------------------------------


def test_defaults_are_those_of_libxdp() -> None:
    assert RunConfig() == RunConfig(50, ActionSet.of(Action.PASS))


@pytest.mark.parametrize("priority", [-1, MAX_PRIORITY + 1])
def test_priority_out_of_range(priority: int) -> None:
    with pytest.raises(InvalidInput, match="not a valid run priority"):
        RunConfig(priority)


# -- read from BTF -------------------------------------------------------------------------------------------


def test_no_section_no_configurations() -> None:
    blob = Blob()
    blob.integer()
    assert read_run_configs(Btf.parse(bytes(blob))) == {}


def test_what_the_af_xdp_default_program_of_libxdp_declares() -> None:
    blob = Blob()
    variable = run_config(blob, "xsk_def_prog", priority=20, XDP_PASS=1)
    assert configs(blob, variable) == {"xsk_def_prog": RunConfig(20, ActionSet.of(Action.PASS))}


def test_several_programs() -> None:
    blob = Blob()
    first, second = run_config(blob, "first", priority=1), run_config(blob, "second", priority=2)
    found = configs(blob, first, second)
    assert {name: config.priority for name, config in found.items()} == {"first": 1, "second": 2}


def test_what_is_left_out_keeps_its_default() -> None:
    blob = Blob()
    found = configs(blob, run_config(blob, "nothing"), run_config(blob, "drops", XDP_DROP=1))
    assert found["nothing"] == RunConfig()
    assert found["drops"] == RunConfig(DEFAULT_PRIORITY, ActionSet.of(Action.DROP, Action.PASS))


def test_pass_can_be_taken_away() -> None:
    blob = Blob()
    found = configs(
        blob, run_config(blob, "last", XDP_PASS=0), run_config(blob, "other", XDP_PASS=0, XDP_TX=1)
    )
    assert found["last"].actions == ActionSet()
    assert found["other"].actions == ActionSet.of(Action.TX)


@pytest.mark.parametrize("action", ALL_ACTIONS)
@pytest.mark.parametrize("number", [0, 1, 7, 0xFFFFFFFF])
def test_any_number_but_zero_means_continue(action: Action, number: int) -> None:
    blob = Blob()
    found = configs(blob, run_config(blob, "f", **{action.xdp_name: number}))
    assert (action in found["f"].actions) == bool(number)


@pytest.mark.parametrize("priority", [0, 1, MAX_PRIORITY])
def test_priorities(priority: int) -> None:
    blob = Blob()
    assert configs(blob, run_config(blob, "f", priority=priority))["f"].priority == priority


def test_other_variables_in_the_section_are_none_of_our_business() -> None:
    blob = Blob()
    other = blob.variable("without_underscore", blob.integer())
    assert configs(blob, other) == {}


def test_all_sections_of_that_name_are_read() -> None:
    """Merged BTF has one per component."""
    blob = Blob()
    blob.section(".xdp_run_config", run_config(blob, "first", priority=1))
    found = configs(blob, run_config(blob, "second", priority=2))
    assert set(found) == {"first", "second"}


def test_a_typedef_in_between_does_not_matter() -> None:
    blob = Blob()
    number = blob.add(8, "number_t", blob.number(3))
    struct = blob.add(10, "", blob.struct("", 8, ("priority", number, 0)))
    assert configs(blob, blob.variable("_f", struct))["f"].priority == 3


def test_an_unknown_member_is_an_error() -> None:
    blob = Blob()
    with pytest.raises(InvalidInput, match="XDP_PASSS") as caught:
        configs(blob, run_config(blob, "f", XDP_PASSS=1))
    assert "'f'" in caught.value.what
    assert "XDP_PASS," in caught.value.todo


def test_a_member_that_is_no_number_is_an_error() -> None:
    blob = Blob()
    struct = blob.struct("", 4, ("priority", blob.integer(), 0))
    with pytest.raises(InvalidInput, match="priority is not a number"):
        configs(blob, blob.variable("_f", struct))


def test_a_priority_beyond_the_range_is_an_error() -> None:
    blob = Blob()
    with pytest.raises(InvalidInput, match="not a valid run priority"):
        configs(blob, run_config(blob, "f", priority=MAX_PRIORITY + 1))


def test_a_variable_that_is_no_struct_is_an_error() -> None:
    blob = Blob()
    with pytest.raises(InvalidInput, match="_f is not a struct"):
        configs(blob, blob.variable("_f", blob.integer()))


# -- versions ------------------------------------------------------------------------------------------------


def test_a_version() -> None:
    blob = Blob()
    blob.section("xdp_metadata", blob.variable("dispatcher_version", blob.number(2)))
    btf = Btf.parse(bytes(blob))
    assert read_metadata_version(btf, "xdp_metadata", "dispatcher_version") == 2
    assert read_metadata_version(btf, "xdp_metadata", "xsk_prog_version") is None
    assert read_metadata_version(btf, "other", "dispatcher_version") is None


def test_a_version_that_is_no_number() -> None:
    blob = Blob()
    blob.section("xdp_metadata", blob.variable("dispatcher_version", blob.integer()))
    with pytest.raises(BtfError, match="not a number"):
        read_metadata_version(Btf.parse(bytes(blob)), "xdp_metadata", "dispatcher_version")
