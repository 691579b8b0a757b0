# SPDX-License-Identifier: Apache-2.0
"""Chains -> spec, with their object files. What could not be applied again is not written without a
warning.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface

from .files import read_text, write_file
from .objects import check_file, write_objects
from .taking import merged, spec_of
from .updating import updated
from .values import InterfaceSpec, Spec
from .writing import dump

__all__ = ["Saved", "saved", "write_spec"]


@frozen
class Saved:
    """A spec, ``warnings`` about what it can't restore, and the object ``files`` that were written for it.

    ``entries`` are the same, each interface separately. Comments on slots are keyed by the indices of the
    entry and the slot.
    """

    spec: Spec
    entries: tuple[tuple[InterfaceSpec, Mapping[int, str]], ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notes: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As TOML."""
        return dump(self.spec, self.notes)


def saved(
    chains: Sequence[tuple[Interface, Chain | None]],
    *,
    objects: str | None = None,
    beside: str | None = None,
) -> Saved:
    """Describe what interfaces run (None: nothing). With ``objects``, a directory, their object files are
    written there from the chains that carry them; the spec names those below its own directory relative to
    its path, ``beside``.

    Raises InvalidInput for object files that are missing or changed since they were loaded, since `apply`
    would refuse them; and what `objects.write_objects` raises.
    """
    known = [chain for _, chain in chains if chain is not None]
    paths: dict[str, str] = {}
    written: dict[str, str] = {}
    if objects is not None:
        written = write_objects(known, objects)
        paths = {sha256: _relative(path, beside) for sha256, path in written.items()}
    else:
        _check(chains)
    sharing = _sharing(known)
    singles = [
        replace(spec_of(chain, glob.escape(where.name), where.netns, paths), share_maps=chain in sharing)
        for where, chain in chains
    ]
    entries = merged(singles)
    warnings, notes = _not_loadable(entries)
    apart = _not_loadable(singles)[1]
    each = tuple((entry, apart.get(i, {})) for i, entry in enumerate(singles))
    return Saved(Spec(entries), each, warnings, tuple(written.values()), notes)


def _sharing(chains: Sequence[Chain]) -> list[Chain]:
    """The chains that have a map in common with another."""
    users = Counter(
        map_id for chain in chains for map_id in {ref.id for slot in chain for ref in slot.component.maps}
    )
    return [c for c in chains if any(users[ref.id] > 1 for slot in c for ref in slot.component.maps)]


def write_spec(made: Saved, path: str, *, replace: bool = False) -> None:
    """Create the file, in an existing directory. If it is already a spec, update it: comments, and anything
    not about these interfaces, stay as they are. With ``replace`` it is written from scratch, whatever it
    holds.

    Raises NotFound (no such directory), InvalidInput (it exists and is no spec, or can't be written).
    """
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise InvalidInput(f"{path} can't be written", "it is a directory", "Name a file in it")
    if not os.path.isdir(folder):
        raise NotFound(f"{path} can't be written", f"there is no directory {folder}", "Create it first")
    text = made.text
    if not replace and os.path.lexists(path) and not _is_stream(path):
        try:
            text = updated(read_text(path), made.entries, path)
        except (InvalidInput, NotFound) as error:
            todo = advise(Do.OVERWRITE)
            raise InvalidInput(f"{path} can't be updated", str(error), todo) from error
    write_file(path, text.encode())


def _is_stream(path: str) -> bool:
    return os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path)


def _relative(path: str, beside: str | None) -> str:
    if beside is None:
        return path
    folder = os.path.dirname(os.path.realpath(beside))
    real = os.path.realpath(path)
    return os.path.relpath(real, folder) if Path(real).is_relative_to(folder) else path


def _check(chains: Iterable[tuple[Interface, Chain | None]]) -> None:
    found: dict[str, None] = {}
    for where, chain in chains:
        for slot in chain or ():
            source = slot.component.object
            if source is None:
                continue
            try:
                check_file(source.path, source.sha256)
                (source.path or "").encode()
            except UnicodeEncodeError:
                found[f"{slot.name} of {where}: the path of its object file is not UTF-8"] = None
            except (InvalidInput, NotFound) as error:
                found[f"{slot.name} of {where}: {error.what} ({error.why})"] = None
    if found:
        raise InvalidInput(
            "what runs can't be saved: applying it would be refused",
            "; ".join(found),
            advise(Do.WRITE_OBJECTS),
        )


def _not_loadable(
    entries: Sequence[InterfaceSpec],
) -> tuple[tuple[str, ...], dict[int, dict[int, str]]]:
    """Slots that can be kept while they run, but not loaded: warnings, and comments for the file."""
    warnings: list[str] = []
    notes: dict[int, dict[int, str]] = {}
    for i, entry in enumerate(entries):
        for j, slot in enumerate(entry.slots):
            if slot.object is None:
                why = "another tool loaded it, so its object file is not known"
                what = "apply keeps it while it runs but can't load it again"
                warnings.append(f"slot {j} {slot.program} of {', '.join(entry.names)}: {why}; {what}")
                notes.setdefault(i, {})[j] = f"{why}:\n{what}, unless you add it here (object = ...)."
    return tuple(warnings), notes
