# SPDX-License-Identifier: Apache-2.0
"""The difference between the running chain and a candidate: changes, steps and warnings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, NotOurs, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.paths import check_routes, row_changed
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot

from .differences import Change, ChangeKind, changes_between
from .lint import Warning, lint
from .moment import Moment

__all__ = ["Plan", "in_generic", "make_plan", "policy_refusal"]

GAP = (
    "the kernel can't switch modes atomically: for a moment no program runs, and packets pass as "
    "if there were none. If this process is killed in between, its guardian restores the old program"
)


@frozen
class Plan:
    """How ``running`` becomes ``candidate``. ``adopts``: the ID of the foreign program that becomes the
    candidate's first slot. ``restores``: the journal state that an undo returns to. ``best``: fall back to
    generic mode if native is refused (`in_generic`). ``keep_maps``: keep the maps of removed slots for a
    while (`linkage.kept_maps`).
    """

    running: Running
    candidate: Chain
    changes: tuple[Change, ...]
    steps: tuple[str, ...]
    warnings: tuple[Warning, ...]
    adopts: int | None = None
    restores: Moment | None = None
    best: bool = False
    keep_maps: bool = False

    @property
    def moves_mode(self) -> bool:
        """Whether it changes the mode of a running chain, which is not atomic."""
        before = self.running.chain
        return before is not None and bool(self.candidate.slots) and before.mode is not self.candidate.mode

    @property
    def empty(self) -> bool:
        """Whether the candidate already runs."""
        return not self.changes

    @property
    def only_fills(self) -> bool:
        """Whether only map contents of the running chain change."""
        return all(change.kind is ChangeKind.FILL for change in self.changes)


def make_plan(
    running: Running,
    candidate: Chain,
    *,
    adopts: int | None = None,
    restores: Moment | None = None,
    mode: WantedMode | None = None,
    keep_maps: bool = False,
    lost: Sequence[str] = (),
) -> Plan:
    """Compare, and describe what applying will do. ``adopts``: the ID of the program that was proved to be
    the candidate's first slot (`adoption.adoption_of`) and may therefore be replaced; ``restores``: from an
    undo (`journal.undoing.undo_of`). ``mode`` overrides the candidate's, even if the running chain's differs
    and must leave the hook for a moment. ``lost`` is what else is lost, one warning each (`Undo.lost`).

    Raises NotOurs if the program on the hook must not be replaced, InvalidInput if the candidate's mode
    differs from the running chain's without an explicit ``mode``, its linkage does not support so many slots,
    or its routes are not possible.
    """
    best = mode is WantedMode.BEST
    if best:
        features = running.device.features
        works = features is None or "basic" in features
        candidate = replace(candidate, mode=Mode.NATIVE if works else Mode.GENERIC)
    elif mode is not None:
        candidate = replace(candidate, mode=Mode(mode.value))
    adopted = adopts is not None and running.hook is not None and running.hook.prog_id == adopts
    if not running.editable and not adopted:
        hook = running.hooks[0]
        raise NotOurs(
            f"{running.interface} runs program {hook.name} (id {hook.prog_id}), which will not be replaced",
            running.note,
            running.todo or advise(Do.ASK_OWNER),
        )
    moved = running.chain is not None and bool(candidate.slots) and candidate.mode is not running.chain.mode
    if running.chain is not None and moved and mode is None and restores is None:
        raise InvalidInput(
            f"{running.interface} runs in {running.chain.mode} mode, {candidate.mode} was requested",
            "the kernel can't switch modes atomically: for a moment no program would run",
            advise(Do.CHANGE_MODE, candidate.mode.value, on=running.interface),
        )
    if candidate.mode is Mode.OFFLOAD and candidate.slots:
        raise InvalidInput("a chain can't run offloaded", "cards only run single programs")
    if candidate.bare:
        candidate = replace(candidate, bare=False)
    _check_length(running, candidate)
    stays = running.chain is not None and running.chain.linkage is candidate.linkage
    check_routes(candidate, running.interface if stays else None)
    _check_policies(running, candidate)
    _check_bound(running, candidate)
    changes = changes_between(running.chain, candidate) + _renewed(running, candidate)
    if running.emptied and candidate.slots:
        changes += (Change(ChangeKind.CHAIN, "", "emptied program arrays are rebuilt"),)
    if running.chain is not None and running.chain.bare and candidate.linkage is running.linkage:
        changes += tuple(
            Change(ChangeKind.CHAIN, "", f"{slot.name} goes behind the dispatcher, whose place it had taken")
            for slot in candidate.slots[:1]
        )
    if adopted:
        changes = tuple(_adopting(running, candidate, change) for change in changes)
    steps = _steps(running, candidate, adopted) if changes else ()
    if steps and keep_maps:
        steps = ("pin the maps of removed slots, for a week at most", *steps)
    warnings = (*lint(candidate, running, keep_maps=keep_maps), *(Warning(None, text) for text in lost))
    if best and candidate.mode is Mode.GENERIC:
        changes, warnings = _generic(changes, warnings, "the driver has no native XDP")
    if moved:
        warnings += (Warning(None, GAP),)
    adopts = adopts if adopted else None
    return Plan(running, candidate, changes, steps, warnings, adopts, restores, best, keep_maps)


def in_generic(plan: Plan, error: XdpChainError) -> Plan:
    """The fallback of a plan with the best mode after native mode was refused: the same in generic mode,
    stated in its changes. Raises what `make_plan` raises.
    """
    generic = make_plan(
        plan.running,
        plan.candidate,
        adopts=plan.adopts,
        restores=plan.restores,
        mode=WantedMode.GENERIC,
        keep_maps=plan.keep_maps,
    )
    changes, warnings = _generic(generic.changes, generic.warnings, error.why or error.what)
    return replace(generic, changes=changes, warnings=warnings)


def _generic(
    changes: tuple[Change, ...], warnings: tuple[Warning, ...], why: str
) -> tuple[tuple[Change, ...], tuple[Warning, ...]]:
    """Add that the best mode is generic; if nothing else changes, only as a warning."""
    text = f"generic mode, since native is not possible: {why}"
    said = (Change(ChangeKind.CHAIN, "", text),) if changes else ()
    return (*changes, *said), (*warnings, Warning(None, f"{text}; it costs several times as much per packet"))


def _renewed(running: Running, candidate: Chain) -> tuple[Change, ...]:
    """Any change replaces a dispatcher whose version is no longer created."""
    chain, dispatcher = running.chain, running.dispatcher
    if chain is None or dispatcher is None or not candidate.slots:
        return ()
    if not (chain.linkage is candidate.linkage and chain.linkage.facts.libxdp):
        return ()
    if chain.dispatcher_version in (None, dispatcher.version):
        return ()
    to = candidate.dispatcher_version or chain.dispatcher_version
    return (Change(ChangeKind.CHAIN, "", f"dispatcher version {dispatcher.version} → {to}"),)


def _adopting(running: Running, candidate: Chain, change: Change) -> Change:
    hook, first = running.hook, candidate.slots[0]
    if hook is None or change.kind is not ChangeKind.ADD or change.name != first.name:
        return change
    kept = ", ".join(ref.name for ref in first.component.maps)
    maps = f", with its maps {kept}" if kept else ""
    text = f"program {hook.prog_id} (tag {hook.tag}) → {change.text}{maps}"
    return Change(ChangeKind.ADOPT, change.name, text, change.key)


def _check_length(running: Running, chain: Chain) -> None:
    most = chain.linkage.facts.most_slots
    if len(chain) <= most:
        return
    stays = running.chain is not None and running.chain.linkage is chain.linkage
    able = [linkage for linkage in Linkage if len(chain) <= linkage.facts.most_slots]
    other = advise(Do.RELINK, able[0], on=running.interface) if stays else advise(Do.CHOOSE_LINKAGE, *able)
    over = len(chain) - most
    raise InvalidInput(
        f"{chain.linkage} linkage does not support {len(chain)} slots",
        f"libxdp's dispatcher has {most} slots",
        other | advise(Do.MEND, f"Remove {over} slot{'s' * (over > 1)}"),
    )


def _check_policies(running: Running, chain: Chain) -> None:
    who = next((slot for slot in chain if slot.policy), None)
    if who is None:
        return
    where, before = running.interface, running.chain
    index = next((i for i, slot in enumerate(before or ()) if slot.key == who.key and slot.policy), None)
    lift = None if index is None else advise(Do.LIFT_POLICY, index, on=where)
    for slot in chain:
        if slot.policy and (refused := policy_refusal(chain, slot)):
            raise refused
    if not chain.counters:
        off = before is not None and not before.counters
        raise InvalidInput(
            f"a policy for {who.name} needs counters",
            "they count what it forbids",
            advise(Do.SWITCH_COUNTERS_ON, on=where) if off else lift or "Leave the counters on",
        )


def policy_refusal(chain: Chain, slot: Slot) -> InvalidInput | None:
    """Why a slot of this chain can't have a policy, whatever it is; None if it can."""
    if not chain.linkage.facts.by_component or slot.component.object is not None:
        return None
    return InvalidInput(
        f"{slot.name} can't have a policy",
        "another tool loaded it, and libxdp's dispatcher has no room for policies: only components that "
        "xdptui loads keep to one by themselves",
        advise(Do.MEND, "Unload it, and load it again from its object file"),
    )


def _check_bound(running: Running, chain: Chain) -> None:
    if chain.bound and chain.mode is Mode.GENERIC:
        native = advise(Do.CHANGE_MODE, "native", on=running.interface)
        raise InvalidInput(
            f"{chain.bound[0]} can't run in generic mode",
            "it reads RX metadata, which only the driver has, in native mode",
            native if running.mode is Mode.GENERIC else "Leave the mode native",
        )


def _steps(running: Running, candidate: Chain, adopted: bool) -> tuple[str, ...]:
    where, hook = running.interface, running.hook
    if not candidate.slots:
        assert hook is not None
        return (
            f"detach dispatcher {hook.prog_id} from {where}, only if it is still that program",
            "remove its leftover pins",
        )
    entry = row_changed(running.chain, candidate) if running.chain and running.arrays else None
    if entry is not None:
        name = candidate.slots[entry[0]].name
        return (f"set one entry of the program array of {name} (slot {entry[0]}): no new program",)
    filled = sum(len(slot.entries) for slot in candidate)
    fill = [f"set {filled} map entr{'y' if filled == 1 else 'ies'}"] if filled else []
    if running.chain == candidate and fill:
        return tuple(fill)
    fresh = sum(slot.id is None for slot in candidate.slots)
    steps = []
    if fresh:
        steps.append(f"load {fresh} new component{'s' * (fresh > 1)}")
    if adopted:
        steps = ["load the program from the object file, with the running maps"]
    if len(candidate.slots) > fresh:
        kept = len(candidate.slots) - fresh
        steps.append(f"keep the maps of {kept} running component{'s' * (kept > 1)}")
    slots = len(candidate.slots)
    steps.append(f"link {slots} slot{'s' * (slots > 1)} into a new dispatcher ({candidate.linkage})")
    if candidate.bound:
        steps.append(f"bind it to {where}, for {' and '.join(candidate.bound)}, which needs RX metadata")
    steps += fill
    if hook and running.chain and candidate.mode is not running.chain.mode:
        steps.append(
            f"detach program {hook.prog_id} from {where} ({running.chain.mode} mode): no program runs now"
        )
        steps.append(f"attach the new one ({candidate.mode} mode); if that is refused, reattach the old one")
    elif hook:
        steps.append(f"swap it in for program {hook.prog_id} on {where} ({candidate.mode} mode, atomic)")
    else:
        steps.append(f"attach it to {where} ({candidate.mode} mode), only if the hook is still free")
    steps.append("release the old program" if adopted else "release the old chain")
    return tuple(steps[:-1] if hook is None else steps)
