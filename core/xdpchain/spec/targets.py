# SPDX-License-Identifier: Apache-2.0
"""Which of the existing interfaces a spec means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .values import InterfaceSpec, Spec, is_glob

__all__ = ["Missing", "SpecTarget", "idle_globs", "namespaces", "targets"]


@frozen
class SpecTarget:
    """An interface, and the index of its entry in the spec."""

    name: str
    netns: str | None
    entry: int

    def __str__(self) -> str:
        return f"{self.name} (netns {self.netns})" if self.netns else self.name


@frozen
class Missing:
    """An interface that the spec names, or a glob, and that does not exist."""

    name: str
    netns: str | None

    def __str__(self) -> str:
        return f"{self.name} (netns {self.netns})" if self.netns else self.name


def namespaces(spec: Spec, default: str | None) -> tuple[str | None, ...]:
    """The namespaces of a spec's interfaces, each once; ``default`` is for entries without one."""
    return tuple(dict.fromkeys(_netns(interface, default) for interface in spec.interfaces))


def targets(
    spec: Spec, there: Mapping[str | None, Sequence[str]], default: str | None = None
) -> tuple[tuple[SpecTarget, ...], tuple[Missing, ...]]:
    """The interfaces that the spec is about, in its order, and those that it names but that don't exist.
    ``there`` has the names of the interfaces in each of `namespaces`. A name takes precedence over a glob; a
    glob may match nothing.

    Raises InvalidInput for an interface that two entries name, or two globs match.
    """
    named = _claims(spec, default, there, globs=False)
    matched = _claims(spec, default, there, globs=True)
    claims = matched | named
    order = {place: i for i, place in enumerate(_places(spec, default, there))}
    found = [
        SpecTarget(name, netns, entry)
        for (netns, name), entry in claims.items()
        if name in there.get(netns, ())
    ]
    missing = [Missing(name, netns) for netns, name in named if name not in there.get(netns, ())]
    return tuple(sorted(found, key=lambda target: order[target.netns, target.name, target.entry])), tuple(
        missing
    )


def idle_globs(
    spec: Spec, there: Mapping[str | None, Sequence[str]], default: str | None = None
) -> tuple[Missing, ...]:
    """The globs that match nothing, each once; ``there`` as for `targets`."""
    idle = (
        Missing(name, netns)
        for entry in spec.interfaces
        for netns in [_netns(entry, default)]
        for name in entry.names
        if is_glob(name) and not _matching(name, there.get(netns, ()))
    )
    return tuple(dict.fromkeys(idle))


def _claims(
    spec: Spec, default: str | None, there: Mapping[str | None, Sequence[str]], *, globs: bool
) -> dict[tuple[str | None, str], int]:
    claims: dict[tuple[str | None, str], int] = {}
    for i, entry in enumerate(spec.interfaces):
        netns = _netns(entry, default)
        for wanted in entry.names:
            if is_glob(wanted) is not globs:
                continue
            for name in _matching(wanted, there.get(netns, ())):
                if claims.setdefault((netns, name), i) != i:
                    where = f"{name} (netns {netns})" if netns else name
                    how = "two globs match" if globs else "two entries name"
                    todo = "Remove it from one of them" + (", or give it an entry by name" if globs else "")
                    raise InvalidInput(f"the spec is ambiguous about {where}", f"{how} it", todo)
    return claims


def _places(
    spec: Spec, default: str | None, there: Mapping[str | None, Sequence[str]]
) -> Iterable[tuple[str | None, str, int]]:
    """Every interface of every entry, in the file's order, possibly repeated."""
    found: dict[tuple[str | None, str, int], None] = {}
    for i, entry in enumerate(spec.interfaces):
        netns = _netns(entry, default)
        for wanted in entry.names:
            found.update(dict.fromkeys((netns, name, i) for name in _matching(wanted, there.get(netns, ()))))
    return found


def _matching(wanted: str, names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if fnmatchcase(name, wanted)] if is_glob(wanted) else [wanted]


def _netns(entry: InterfaceSpec, default: str | None) -> str | None:
    return default if entry.netns is None else entry.netns
