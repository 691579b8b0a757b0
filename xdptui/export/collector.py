# SPDX-License-Identifier: Apache-2.0
"""Metrics read from the kernel at each Prometheus scrape."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from xdpchain.errors import PermissionDenied, XdpChainError
from xdpchain.model.counts import Sample
from xdpchain.model.running import Running
from xdpchain.observe.discover import traffic
from xdpchain.observe.kept_survey import KeptSurvey
from xdpchain.observe.memory import chain_memory
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.observe.running_sites import reasons_of
from xdpchain.observe.site_shares import SlotReasons
from xdptui.export.metrics import (
    METRICS,
    SECONDS,
    SITE_METRICS,
    UP,
    ChainRows,
    Family,
    Metric,
    Row,
    memory_values,
    site_values,
    values,
)
from xdptui.words.advice import told
from xdptui.workers.meter import Meter, open_missing
from xdptui.workers.readings import counts_already

__all__ = ["ChainCollector", "MetricSource"]


class MetricSource(Protocol):
    """Additional metrics about running chains."""

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def read(self, runnings: Sequence[Running]) -> Iterator[Row]: ...


class ChainCollector:
    """Reads counters at each scrape, and of what runs only what changed (`KeptSurvey`); counters stay open
    between scrapes. Safe for concurrent scrapes.

    ``interfaces``: only these (empty: all); ``trace``: also count, from outside, what has no counters of its
    own, for as long as this object lives; ``sites``: also by source line; ``sources``: what else to export
    (not closed here).
    """

    def __init__(
        self,
        netns: str | None = None,
        interfaces: Collection[str] = (),
        *,
        trace: bool = False,
        sites: bool = False,
        sources: Sequence[MetricSource] = (),
    ) -> None:
        self._netns, self._interfaces, self._trace = netns, frozenset(interfaces), trace
        self._sources = sources
        self._sites = sites
        self._reasons: dict[int, tuple[Running, tuple[SlotReasons, ...]]] = {}
        self._rows: dict[int, tuple[Running, ChainRows]] = {}
        """By identity: what is unchanged is the same object."""
        self._meter = Meter()
        self._kept: KeptSurvey | None = None
        self._lock = threading.Lock()
        self.trouble = ""
        """Why the last attempt to read the kernel failed; empty if it succeeded."""

    def collect(self) -> list[Family]:
        began = time.monotonic()
        found: list[Row] = []
        with self._lock:
            try:
                found += self._read()
                self.trouble = ""
            except (XdpChainError, OSError) as error:
                found.clear()
                self.trouble = told(error)
                self._forget()
            found.append(Row.of(UP, (), float(not self.trouble)))
        found.append(Row.of(SECONDS, (), time.monotonic() - began))
        metrics = (
            *METRICS,
            *SITE_METRICS * self._sites,
            *(metric for source in self._sources for metric in source.metrics),
        )
        families = {metric.name: Family(metric, []) for metric in metrics}
        for row in found:
            families[row.metric.name].rows.append(row)
        return list(families.values())

    def close(self) -> None:
        with self._lock:
            self._meter.close()
            self._forget()

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _survey(self) -> tuple[Running, ...]:
        if self._kept is None:
            self._kept = KeptSurvey(self._netns)
        return self._kept.look()

    def _read(self) -> Iterator[Row]:
        runnings, counted = self._survey(), traffic(self._netns)
        if self._interfaces:
            runnings = tuple(running for running in runnings if running.interface.name in self._interfaces)
        counting = [running for running in runnings if self._trace or counts_already(running)]
        opened = open_missing(counting, self._meter.known, attach=self._trace, sites=self._sites)
        self._meter.sync(counting, opened)
        samples = {
            running.interface.ifindex: self._meter.counts(running.interface.ifindex) for running in counting
        }
        chains = [running for running in runnings if running.hooks]
        self._rows = {id(one): self._rows.get(id(one)) or (one, ChainRows.of(one)) for one in chains}
        yield from values(
            ((running, samples.get(running.interface.ifindex)) for running in runnings),
            counted,
            boot_clock(),
            lambda running: self._rows[id(running)][1],
        )
        yield from self._site_values(runnings, samples) if self._sites else ()
        for running in runnings:
            if running.hook is not None:
                with contextlib.suppress(PermissionDenied):  # leave it out, export the rest
                    yield from memory_values(running, chain_memory(running))
        for source in self._sources:
            yield from source.read(runnings)

    def _site_values(
        self, runnings: Sequence[Running], samples: Mapping[int, Sample | None]
    ) -> Iterator[Row]:
        """Values by source line. Programs are read again if what runs has changed."""
        before, self._reasons = self._reasons, {}
        for running in runnings:
            index = running.interface.ifindex
            sample = samples.get(index)
            if sample is None:
                continue
            known = before.get(index)
            if known is None or known[0].identity != running.identity:
                try:
                    known = running, reasons_of(running)
                except XdpChainError:
                    continue  # it went away meanwhile, or can't be followed
            self._reasons[index] = known
            yield from site_values(running, sample, known[1])
