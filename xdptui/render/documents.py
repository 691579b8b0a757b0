# SPDX-License-Identifier: Apache-2.0
"""The JSON documents of the command line: a contract with scripts, described in docs/cli.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.chain import Chain
from xdpchain.model.following import Following
from xdpchain.model.manifest import Author
from xdpchain.model.pending_change import ConfirmOutcome, PendingChange
from xdpchain.model.routes import route_name
from xdpchain.model.running import Running
from xdpchain.model.shadow import would_have
from xdpchain.model.sharing import owners_of
from xdpchain.model.slot import Slot
from xdptui.words.advice import worded
from xdptui.words.site_words import site_document

if TYPE_CHECKING:
    from xdpchain.change.checks import Finding
    from xdpchain.change.plan import Plan
    from xdpchain.linkage.kept_maps import KeptMap
    from xdpchain.observe.behind import Behind
    from xdpchain.observe.beside import Beside
    from xdpchain.observe.counters import Sample, SlotCounts
    from xdpchain.observe.owner_evidence import Evidence, Ownership
    from xdpchain.trial.packets.rewriting import Rewriting
    from xdpchain.trial.ssh_guard import Judgement
    from xdpchain.trial.whatif import Outcome, Side, WhatIf

__all__ = [
    "behind",
    "beside",
    "counts",
    "interface",
    "own_connection",
    "owner_evidence",
    "plan",
    "slot",
    "status",
    "what_if",
]

Document = dict[str, Any]


def status(
    entries: Sequence[tuple[Running, Sample | None]],
    now: float = 0.0,
    kept: Sequence[KeptMap] = (),
    stands: Mapping[int, Sequence[Behind]] = {},
) -> Document:
    """``status --json``; ``now`` is in seconds of CLOCK_BOOTTIME, ``kept`` are maps of unloaded slots,
    ``stands`` lists by ifindex what is attached behind the programs.
    """
    return {
        "interfaces": [
            interface(running, sample, now)
            | {"behind": [behind(program) for program in stands.get(running.interface.ifindex, ())]}
            for running, sample in entries
        ],
        "kept_maps": [
            {
                "id": kept_map.map_id,
                "name": kept_map.name,
                "ifindex": kept_map.ifindex,
                "netns_inode": kept_map.inode,
                "seconds": round(now - kept_map.since),
                "pin": kept_map.pin,
            }
            for kept_map in kept
        ],
    }


def behind(program: Behind) -> Document:
    """One entry of ``interfaces[].behind``: a program in a map."""
    return {
        "map": {"name": program.map_name, "id": program.map_id, "type": program.kind},
        "index": program.index,
        "ifindex": program.ifindex,
        "program": {"id": program.prog_id, "name": program.name},
        "not_counted": program.uncounted,
    }


def interface(running: Running, sample: Sample | None = None, now: float = 0.0) -> Document:
    """One entry of ``interfaces``; ``sample`` None: there are no counters, or they can't be read."""
    device = running.device
    where = running.interface
    chain = running.chain or running.shown
    return {
        "name": where.name,
        "ifindex": where.ifindex,
        "netns": where.netns,
        "mode": _value(running.mode),
        "owner": _value(running.owner),
        "linkage": _value(running.linkage),
        "form": running.form or None,
        "form_reason": running.form_reason,
        "dispatcher": running.dispatcher
        and {
            "id": running.dispatcher.id,
            "version": running.dispatcher.version,
            "bound": running.dispatcher.bound,
        },
        "slots": [slot(chain, i, sample) for i in range(len(chain))] if chain else [],
        "verdict": counts(sample.verdict) if sample and sample.verdict else None,
        "counters": running.counting is not None,
        "editable": running.editable,
        "note": running.note,
        "todo": worded(running.todo, where.netns),
        "armed": running.pending and _pending(running.pending, now),
        "settled": running.settled and _settled(running.settled),
        "following": running.following and _following(running.following),
        "programs": [
            {"mode": h.mode.value, "id": h.prog_id, "name": h.name, "tag": h.tag, "link": h.link_id}
            for h in running.hooks
        ],
        "device": {
            "up": device.up,
            "operstate": device.operstate,
            "mtu": device.mtu,
            "driver": device.driver,
            "features": None if device.features is None else sorted(device.features),
            "address": device.address,
            "rx": {"packets": device.rx[0], "bytes": device.rx[1]},
            "tx": {"packets": device.tx[0], "bytes": device.tx[1]},
        },
    }


def beside(seen: Beside) -> Document:
    """``interfaces[].beside`` of ``status IF``."""
    return {
        "found": [
            {
                "what": companion.what,
                "at": companion.at,
                "name": companion.name,
                "program": companion.prog_id,
                "in_hw": companion.in_hw,
                "text": companion.text,
            }
            for companion in seen.found
        ],
        "unseen": list(seen.unseen),
    }


def owner_evidence(ownership: Ownership, evidence: Evidence) -> Document:
    """Who owns a program that can't be edited, as far as the evidence shows."""
    return {
        "owner": ownership.who or None,
        "how": ownership.how,
        "holders": [
            {"pid": held.pid, "command": held.command, "holds": held.holds} for held in evidence.held
        ],
        "pins": list(evidence.pins),
        "complete": evidence.complete,
    }


def _pending(pending: PendingChange, now: float) -> Document:
    return {
        "state": pending.state.value,
        "seconds": pending.seconds,
        "seconds_left": round(pending.seconds_left(now), 3),
        "rolls_back_to": pending.old,
        "runs": pending.new,
        "by": _author(pending.author),
        "guardian": pending.guardian,
        "together": list(pending.together),
    }


def _following(following: Following) -> Document:
    return {
        "filter": following.expression,
        "alive": following.alive,
        "by": _author(following.author),
    }


def _settled(settled: ConfirmOutcome) -> Document:
    return {
        "outcome": settled.outcome.value,
        "at": settled.at,
        "text": settled.text,
        "before": settled.new,
        "after": settled.runs,
        "by": _author(settled.author),
    }


def _author(author: Author) -> Document:
    return {"user": author.user, "pid": author.pid, "command": author.command, "at": author.at}


def slot(chain: Chain, index: int, sample: Sample | None = None) -> Document:
    """One entry of ``slots``."""
    slot = chain.slots[index]
    component = slot.component
    counted = sample.slots.get(slot.key) if sample else None
    source = component.object
    return {
        "slot": index,
        "name": slot.name,
        "id": slot.id,
        "tag": component.tag,
        "program": slot.program,
        "priority": slot.priority,
        "actions": list(slot.actions.names()),
        "routes": routes(chain, slot),
        "shadow": slot.shadow,
        "off": slot.off,
        "labels": dict(slot.labels),
        "would_have": _would_have(slot, counted) if counted and slot.shadow else None,
        "policy": _policy(slot, counted),
        "counters": counts(counted) if counted else None,
        "section": component.section,
        "declared": {
            "priority": component.declared.priority,
            "actions": list(component.declared.actions.names()),
        },
        "frags": component.frags,
        "object": source and {"path": source.path, "sha256": source.sha256, "size": source.size},
        "globals": {variable.name: variable.text for variable in component.globals},
        "map_entries": dict(component.map_entries),
        "shared_maps": {
            name: {"slot": place, "map": theirs} for name, (place, theirs) in owners_of(chain, slot).items()
        },
        "maps": [{"name": ref.name, "id": ref.id} for ref in component.maps],
        "key": slot.key,
    }


def routes(chain: Chain, slot: Slot) -> list[Document]:
    """The return codes (``*``: any other) that lead to a named slot."""
    places = {other.key: index for index, other in enumerate(chain)}
    return [
        {"code": route_name(route.code), "slot": index, "name": chain.slots[index].name}
        for route in slot.routes
        if (index := places.get(route.target)) is not None
    ]


def _policy(slot: Slot, counted: SlotCounts | None) -> Document | None:
    if slot.policy is None:
        return None
    return {
        "may": list(slot.policy.may.names()),
        "otherwise": slot.policy.otherwise.value,
        "forbidden": int(slot.policy.breaches(counted.packets)) if counted else None,
    }


def _would_have(slot: Slot, counted: SlotCounts) -> Document:
    """Packets and their share of the total; null if there were none."""
    found = would_have(slot, counted.packets)
    return {
        name: {"packets": int(packets), "share": packets / found.all if found.all else None}
        for name, packets in (
            ("dropped", found.dropped),
            ("sent", found.sent),
            ("passed", found.passed),
            ("diverted", found.diverted),
        )
    }


def counts(counted: SlotCounts) -> Document:
    """Packets and bytes by action; ``other``: return codes that are not actions."""
    names = [*(action.xdp_name for action in ALL_ACTIONS), "other"]
    return {
        name: {"packets": packets, "bytes": octets}
        for name, packets, octets in zip(names, counted.packets, counted.bytes, strict=True)
    }


def plan(made: Plan, notes: Sequence[str] = (), findings: Iterable[Finding] = ()) -> Document:
    """What a changing command did or would do, remarks, and objections to the new components."""
    return {
        "changes": [
            {"kind": c.kind.value, "symbol": c.symbol, "name": c.name, "text": c.text} for c in made.changes
        ],
        "steps": list(made.steps),
        "warnings": [{"slot": w.slot, "text": w.text} for w in made.warnings],
        "candidate": _chain(made.candidate),
        "notes": list(notes),
        "findings": [{"level": f.level, "text": f.text, "todo": f.todo} for f in findings],
    }


def _chain(chain: Chain) -> Document:
    return {
        "linkage": chain.linkage.value,
        "mode": chain.mode.value,
        "counters": chain.counters,
        "slots": [slot(chain, i) for i in range(len(chain))],
    }


def what_if(tried: WhatIf, notes: Sequence[str]) -> Document:
    """The matrix of ``--what-if``."""
    packets = [
        {
            "name": crossing.packet.name,
            "length": len(crossing.packet.data),
            "own": crossing.packet.own,
            "differs": crossing.differs,
            "old": _outcome(crossing.old, tried.old, old),
            "new": _outcome(crossing.new, tried.new, new),
        }
        for crossing in tried.crossings
        for old, new in (crossing.rewritten,)
    ]
    tallies = [
        {
            "old": _verdict(tally.old),
            "new": _verdict(tally.new),
            "differs": tally.differs,
            "rewritten": tally.rewritten,
            "packets": tally.count,
        }
        for tally in tried.tallies
    ]
    return {
        "old": _side(tried.old),
        "new": _side(tried.new),
        "summary": tallies,
        "packets": packets,
        "reached": [
            [site_document(site) | {"packets": counts.get(n, 0)} for n, site in enumerate(sites)]
            for sites, counts in zip(tried.new.sites, tried.reached, strict=False)
        ],
        "not_known": list(tried.unknown),
        "notes": list(notes),
    }


def own_connection(judged: Judgement) -> Document:
    """What happens to the operator's own ssh connection."""
    return {
        "interface": judged.where,
        "lost": [{"packet": o.packet, "verdict": _verdict(o.verdict), "by": o.by} for o in judged.lost],
        "unchecked": judged.unchecked,
    }


def _outcome(outcome: Outcome, side: Side, rewriting: Rewriting) -> Document:
    places = zip(side.sites, outcome.sites, strict=False)
    return {
        "verdict": _verdict(outcome.verdict),
        "slots": [_verdict(code) for code in outcome.slots],
        "sites": [None if site is None else site_document(sites[site]) for sites, site in places],
        "length": len(outcome.data),
        "changed": [list(pair) for pair in rewriting.ranges],
        "head": rewriting.head,
        "tail": rewriting.tail,
        "why": outcome.why,
    }


def _side(side: Side) -> Document:
    return {"slots": list(side.slots), "shadow": sorted(side.shadow), "why": side.why}


def _verdict(code: Action | int | None) -> str | None:
    if code is None:
        return None
    return code.xdp_name if isinstance(code, Action) else f"code {code}"


def _value(choice: Any) -> Any:
    return None if choice is None else choice.value
