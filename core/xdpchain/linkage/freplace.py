# SPDX-License-Identifier: Apache-2.0
"""freplace linkage: components of type EXT replace a dispatcher's stubs, as in libxdp's protocol.

A new dispatcher is built next to the running one, and the components are attached to it. Those that already
run get one more link without a reload, so that their IDs and maps stay (kernel 5.10, 4a1e7c0c63e0). The links
are pinned as ``<bpffs>/xdp/dispatch-<ifindex>-<prog id>/progN-link``, next to ``progN-prog``, where libxdp
finds them. The pins also hold the dispatcher, so the old one is freed only when they are removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from xdpchain.advice import Do, advise
from xdpchain.errors import KernelRefused, LinkRefused, NotOurs, PermissionDenied, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.manifest import Author
from xdpchain.model.running import Running
from xdpchain.model.sharing import loading_order
from xdpchain.model.slot import Slot
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.libbpf import BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS
from xdpchain.sys.mount_lifetime import require_lasting
from xdpchain.sys.trusted_directory import Untrusted

from .array_pins import pin_arrays, pinned_for, release_arrays, remove_array_pins
from .compile import Stub
from .counting import share_with
from .dispatcher.attached import labels_of, made_for
from .dispatcher.config import DispatcherConfig, SlotConfig, mask_of
from .dispatcher.emit import function_ids, load_dispatcher, slot_function, takes_frags
from .dispatcher.installed import BINDABLE, EMITTED, emitted_version
from .dispatcher.shadow import leave_labels, leave_note
from .extension import Extension, ExtensionLoader
from .map_pins import pin_map
from .probe import probe_freplace
from .self_counting import policy_within

__all__ = ["FreplaceChain", "FreplaceLinker"]


class FreplaceChain:
    """A dispatcher with its components, not attached to an interface (see `linkage.Built`)."""

    def __init__(
        self,
        program: bpf.Fd,
        chain: Chain,
        running: Running,
        extensions: Sequence[Extension],
        links: Sequence[bpf.Fd],
        release: contextlib.ExitStack,
    ) -> None:
        self.program = program
        self.chain = chain
        self._running = running
        self._extensions = extensions
        self._links = links
        self._release = release
        self._undo: list[Callable[[], object]] = []

    def pin(self) -> None:
        require_lasting(bpffs.find(), "a dispatcher's links", "use --linkage static")
        directory = bpffs.make_dispatch_dir(self._running.interface.ifindex, bpf.prog_info(self.program).id)
        self._undo.append(lambda: bpffs.remove_dispatch_dir(directory))
        try:
            with bpffs.open_dispatch_dir(directory) as opened:
                for i, (extension, link) in enumerate(zip(self._extensions, self._links, strict=True)):
                    opened.pin(f"prog{i}-link", link)
                    opened.pin(f"prog{i}-prog", extension.program)
        except OSError as error:
            raise bpf.refusal(error, f"the chain can't be pinned in {directory.path}") from error
        for extension in self._extensions:
            self._pin_maps(extension)
        # Last, because binding a map can't be undone: a change that can't be pinned must not leave one
        # behind.
        for extension in self._extensions:
            if extension.counters is not None:
                try:
                    share_with(self._running, extension.counters)
                except bpf.BpfError as error:
                    what = "the running chain's counts can't be linked to the new ones"
                    raise bpf.refusal(error, what) from error

    def _pin_maps(self, extension: Extension) -> None:
        prog_id = extension.slot.component.id
        if extension.arrays and prog_id is not None:
            # By the component, not the dispatcher: the component outlives dispatchers, even when libxdp
            # edits.
            self._undo.append(lambda: remove_array_pins(prog_id))
            pin_arrays(prog_id, extension.arrays)
        if extension.kept is not None and extension.slot.program and prog_id is not None:
            # As with arrays: a component that no dispatcher holds needs a pin, which goes with its stand-in.
            stand_in = extension.slot.program
            self._undo.append(lambda: remove_array_pins(stand_in))
            pin_arrays(stand_in, {prog_id: extension.kept})
        for fd, path in extension.pins:
            self._undo.append(pin_map(fd, path))

    def unpin(self) -> None:
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        self._release.close()


class FreplaceLinker:
    """freplace linkage (see `linkage.Linker`)."""

    def build(self, candidate: Chain, running: Running, author: Author) -> FreplaceChain:
        bpffs.find()  # the pins need it: fail before anything is loaded
        with contextlib.ExitStack() as held:
            loader = ExtensionLoader(held, author, running, counting=candidate.counters)
            taken = [
                None if _renewed(slot, candidate, running) else loader.take(slot) for slot in candidate.slots
            ]
            config = _config(candidate, running)
            dispatcher = load_dispatcher(config, running.interface)
            held.callback(dispatcher.close)
            functions = function_ids(dispatcher)
            extensions: dict[int, Extension] = {}
            links: dict[int, bpf.Fd] = {}
            for i in loading_order(candidate.slots):
                slot = candidate.slots[i]
                function = slot_function(i, config.slots)
                target = Stub(dispatcher, function)
                with _explained():
                    extension = taken[i] or loader.load(slot, target, functions[function])
                    if slot.off:
                        extension = loader.switched_off(extension, target)
                    link = _attach(extension, dispatcher, functions[function])
                held.callback(link.close)
                if not slot.off:
                    _note_labels(extension, dispatcher)
                if slot.shadow and not slot.off:
                    _note_actions(extension, dispatcher)
                extensions[i], links[i] = extension, link
            made = [extensions[i] for i in range(len(extensions))]
            slots = tuple(extension.slot for extension in made)
            chain = replace(candidate, slots=slots, bare=False, dispatcher_version=config.version)
            attached = [links[i] for i in range(len(links))]
            return FreplaceChain(dispatcher, chain, running, made, attached, held.pop_all())

    def retire(self, running: Running) -> None:
        if running.dispatcher is None or running.chain is None:
            return
        # The change is done. `clean` can remove pins that stay behind, so they don't make it a failure.
        with contextlib.suppress(NotOurs, KernelRefused, Untrusted, bpffs.BpffsMissing):
            directory = bpffs.dispatch_dir(running.interface.ifindex, running.dispatcher.id)
            bpffs.remove_dispatch_dir(directory)
        release_arrays(pinned_for(running.chain))


def _renewed(slot: Slot, candidate: Chain, running: Running) -> bool:
    """Whether a running component must be loaded again because its counters are switched on or off, or
    because its policy changes.
    """
    if running.chain is None or slot.id is None:
        return False
    try:
        made = made_for(slot.id)
    except bpf.BpfError:
        return False  # it is gone, so it is loaded again anyway
    if made is None:
        return slot.policy is not None
    if policy_within(made.slot) != policy_within(slot):
        return True
    return candidate.counters != running.chain.counters and made.counts != candidate.counters


def _config(candidate: Chain, running: Running) -> DispatcherConfig:
    version = candidate.dispatcher_version
    if version is None and running.dispatcher and running.linkage is Linkage.FREPLACE:
        version = running.dispatcher.version if running.dispatcher.version in EMITTED else None
    version = version or emitted_version()
    bound = _bound(candidate, running, version)
    slots = tuple(
        SlotConfig(
            mask_of(slot),
            slot.priority,
            BPF_F_XDP_HAS_FRAGS * slot.component.frags | BPF_F_XDP_DEV_BOUND_ONLY * bound,
        )
        for slot in candidate.slots
    )
    frags = takes_frags() and all(slot.component.frags for slot in candidate.slots)
    return DispatcherConfig(version, slots, frags, bound)


def _bound(candidate: Chain, running: Running, version: int) -> bool:
    """Whether the dispatcher must be bound to the interface: because a component reads RX metadata, or
    because one was loaded while the dispatcher was bound, and so is bound too.
    """
    before = running.dispatcher if running.linkage is Linkage.FREPLACE else None
    kept = before is not None and before.bound and any(slot.id is not None for slot in candidate.slots)
    if (candidate.bound or kept) and version < BINDABLE:
        who = ", ".join(candidate.bound) or "what was loaded for this device"
        raise LinkRefused(
            f"{who} can't run behind this dispatcher",
            f"RX metadata needs dispatcher version {BINDABLE} (libxdp 1.6 or newer), not {version}",
            advise(Do.CHOOSE_LINKAGE, "static"),
        )
    return bool(candidate.bound) or kept


def _note_actions(extension: Extension, dispatcher: bpf.Fd) -> None:
    try:
        leave_note(extension.program, bpf.prog_info(dispatcher).id, extension.slot.actions)
    except bpf.BpfError as error:
        what = f"the actions of {extension.slot.name} can't be kept while it is in shadow"
        raise bpf.refusal(error, what) from error


def _note_labels(extension: Extension, dispatcher: bpf.Fd) -> None:
    made_for, prog_id, labels = bpf.prog_info(dispatcher).id, extension.slot.id, extension.slot.labels
    try:
        if prog_id is not None and labels_of(prog_id, made_for) != labels:
            leave_labels(extension.program, made_for, labels)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the labels of {extension.slot.name} can't be kept") from error


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """If the kernel refuses freplace as such, say so in place of the single refusal."""
    try:
        yield
    except (KernelRefused, PermissionDenied) as error:
        probed = probe_freplace()
        if probed.works:
            raise
        what, todo = "freplace linkage can't be used", advise(Do.CHOOSE_LINKAGE, "static", "tailcall")
        raise LinkRefused(what, probed.reason, todo, detail=probed.detail) from error


def _attach(extension: Extension, dispatcher: bpf.Fd, function: int) -> bpf.Fd:
    try:
        return bpf.link_create(extension.program, dispatcher, target_btf_id=function)
    except bpf.BpfError as error:
        raise _refused(extension.slot.name, error) from error


def _refused(name: str, error: bpf.BpfError) -> XdpChainError:
    return bpf.refusal(
        error, f"{name} can't be attached to the dispatcher", advise(Do.CHOOSE_LINKAGE, "static")
    )
