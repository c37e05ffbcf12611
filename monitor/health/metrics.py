"""The daemon's metrics for Prometheus, in a registry of their own. docs/operations.md lists them all."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from connectors.records import Channel, Queue, Reason
from monitor.engine import Outbox, Step
from monitor.generation import Change
from monitor.health.board import NOTHING, Figures
from monitor.health.conditions import Condition, Key
from monitor.health.vitals import NotReady, Vitals
from monitor.settings import State
from monitor.thresholds.tracking import Gate

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
_REASONS = frozenset(reason.value for reason in Reason)
_OWN_COUNTS = frozenset({"WINDOWS", "OVER_LIMIT", "SLOTS", *(f"GATE_{gate.name}" for gate in Gate)})
"""Counts of the fold that have a metric of their own."""


class Metrics:
    """What the loop counts and measures; the loop is the only writer.

    Args:
        vitals: the daemon's state, read when metrics are.
        state: bounds of the outbox.
        version: of nuwatch.

    Attributes:
        registry: all of them.
    """

    def __init__(self, vitals: Vitals, state: State, version: str) -> None:
        self.registry = CollectorRegistry()
        self._counters()
        self._gauges(vitals, state)
        Info("nuwatch", "The running version.", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)
        self._view = _View(vitals)
        self.registry.register(self._view)

    def _counters(self) -> None:
        self._records = Counter("nuwatch_records", "Input records read.", registry=self.registry)
        self._rejected = Counter(
            "nuwatch_rejected", "Input rows not accepted, by reason.", ["reason"], registry=self.registry
        )
        self._counted = Counter(
            "nuwatch_counted", "What else the fold counts.", ["what"], registry=self.registry
        )
        self._slots = Counter("nuwatch_slots", "Grid slots closed.", registry=self.registry)
        self._windows = Counter("nuwatch_windows", "Windows scored.", registry=self.registry)
        self._over = Counter(
            "nuwatch_windows_over_limit", "Windows with a ratio over 1.", registry=self.registry
        )
        self._gates = Counter(
            "nuwatch_gate_windows", "Windows by the gate of tracking.", ["gate"], registry=self.registry
        )
        self._published = Counter(
            "nuwatch_published", "Records handed to the sink.", ["channel"], registry=self.registry
        )
        self._latency = Histogram(
            "nuwatch_append_to_alert_seconds",
            "From the broker's timestamp of a poll's newest record to its alerts' hand-over to the sink.",
            buckets=_LATENCY,
            registry=self.registry,
        )
        self._snapshots = Histogram(
            "nuwatch_snapshot_seconds",
            "Time of a snapshot, the flush included.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._state_errors = Counter(
            "nuwatch_state_write_errors", "Snapshots that failed at the state.", registry=self.registry
        )
        self._sink_errors = Counter(
            "nuwatch_sink_errors", "Snapshots that failed at the sink.", registry=self.registry
        )
        self._pauses = Counter(
            "nuwatch_input_pauses", "Times that the input was paused.", registry=self.registry
        )
        self._recompiles = Gauge(
            "nuwatch_recompiles", "Compilations since warm-up; expected 0.", registry=self.registry
        )
        self._reconnections = Gauge(
            "nuwatch_source_reconnections", "Connections replaced at a standstill.", registry=self.registry
        )
        for reason in Reason:
            self._rejected.labels(reason.value)
        for channel in Channel:
            self._published.labels(channel.value)

    def _gauges(self, vitals: Vitals, state: State) -> None:
        self._outbox = Gauge(
            "nuwatch_outbox_events", "Events not acknowledged by a snapshot.", registry=self.registry
        )
        limit = Gauge("nuwatch_outbox_limit_events", "At this many the input pauses.", registry=self.registry)
        limit.set(state.outbox)
        self._queue = Gauge("nuwatch_queue_bytes", "Memory of a queue.", ["queue"], registry=self.registry)
        self._most = Gauge(
            "nuwatch_queue_limit_bytes", "What it holds at most.", ["queue"], registry=self.registry
        )
        self._most.labels("outbox").set(state.outbox_bytes)
        poll_age = Gauge("nuwatch_seconds_since_poll", "Since poll last returned.", registry=self.registry)
        poll_age.set_function(lambda: vitals.activity.seconds_since_poll)
        stage_age = Gauge(
            "nuwatch_seconds_in_stage", "That the loop has been in its present stage.", registry=self.registry
        )
        stage_age.set_function(lambda: vitals.activity.seconds_in_stage)
        state_age = Gauge(
            "nuwatch_seconds_since_snapshot", "Since the state was last durable.", registry=self.registry
        )
        state_age.set_function(lambda: vitals.seconds_since_snapshot)

    def stepped(self, steps: Sequence[Step], wall: float) -> None:
        """What came of a step; ``wall`` is in seconds since the epoch."""
        for step in steps:
            self._records.inc(step.polled.records)
            self._count(step.outcome.counts)
            channels = Counts(record.channel for record in step.outcome.records)
            for channel, count in channels.items():
                self._published.labels(channel.value).inc(count)
            if channels[Channel.ALERTS] and step.polled.newest_ms:
                seconds = max(0.0, wall - step.polled.newest_ms / 1000)
                for _ in range(channels[Channel.ALERTS]):
                    self._latency.observe(seconds)

    def _count(self, counts: Counts[str]) -> None:
        self._slots.inc(counts["SLOTS"])
        self._windows.inc(counts["WINDOWS"])
        self._over.inc(counts["OVER_LIMIT"])
        for name, count in counts.items():
            if name in _REASONS:
                self._rejected.labels(name).inc(count)
            elif name not in _OWN_COUNTS:
                self._counted.labels(name).inc(count)
        for gate in Gate:
            self._gates.labels(gate.name).inc(counts[f"GATE_{gate.name}"])

    def snapshot_took(self, seconds: float) -> None:
        """A snapshot is durable."""
        self._snapshots.observe(seconds)

    def sink_failed(self) -> None:
        """A snapshot waits for the sink."""
        self._sink_errors.inc()

    def state_failed(self) -> None:
        """A snapshot waits for the disk."""
        self._state_errors.inc()

    def paused(self) -> None:
        """The input was paused."""
        self._pauses.inc()

    def came_round(
        self,
        outbox: Outbox,
        recompiles: int,
        reconnections: int,
        open_: Sequence[Key],
        queues: Sequence[Queue],
    ) -> None:
        """Figures of the loop itself, at every turn."""
        for queue in queues:
            self._queue.labels(queue.name).set(queue.size)
            self._most.labels(queue.name).set(queue.limit)
        self._outbox.set(outbox.events)
        self._queue.labels("outbox").set(outbox.size)
        self._recompiles.set(recompiles)
        self._reconnections.set(reconnections)
        self._view.conditions = Counts(key.condition for key in open_)

    def assets(self, figures: Figures) -> None:
        """Figures of the assets, at every snapshot."""
        self._queue.labels("open_slots").set(figures.pending_bytes)
        self._most.labels("open_slots").set(figures.most_pending_bytes)
        self._view.figures = figures

    def in_force(self, changes: Mapping[int, Change]) -> None:
        """What every partition stands under, at every snapshot."""
        self._view.in_force = dict(changes)


class _View(Collector):
    """What is read when metrics are: whole families, so that no label outlives what it names."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self.figures = NOTHING
        self.in_force: Mapping[int, Change] = {}
        self.conditions: Counts[Condition] = Counts()

    def collect(self) -> Iterator[Any]:
        """All families."""
        yield from self._of_the_daemon()
        yield from self._of_all_assets(self.figures)
        yield from self._of_own_assets(self.figures)

    def _of_the_daemon(self) -> Iterator[Any]:
        vitals = self._vitals
        reasons = {reason.code for reason in vitals.not_ready()}
        yield _one("nuwatch_ready", "1 when /readyz answers 200.", not reasons)
        yield _family(
            "nuwatch_not_ready",
            "1 for each reason not to be ready.",
            ["reason"],
            {(code.value,): code in reasons for code in NotReady},
        )
        yield _one("nuwatch_partitions", "Partitions read here.", vitals.partitions)
        yield from self._of_what_is_in_force()
        if vitals.lag is not None:
            yield _one("nuwatch_lag_records", "Records that wait at the source.", vitals.lag)
        yield _one("nuwatch_input_paused", "1 while the input is paused.", vitals.paused is not None)
        yield _family(
            "nuwatch_health_open",
            "Open MONITOR_HEALTH conditions.",
            ["condition"],
            {(each.value,): self.conditions[each] for each in Condition},
        )

    def _of_what_is_in_force(self) -> Iterator[Any]:
        changes = list(self.in_force.values())
        yield _family(
            "nuwatch_configuration_partitions",
            "Partitions that stand under a configuration.",
            ["configuration", "command"],
            Counts((each.configuration, each.told.name if each.told else "") for each in changes),
        )
        yield _family(
            "nuwatch_bundle_partitions",
            "Partitions on which a bundle judges an asset class.",
            ["asset_class", "bundle"],
            Counts(pair for each in changes for pair in each.bundles.items()),
        )

    @staticmethod
    def _of_all_assets(figures: Figures) -> Iterator[Any]:
        yield _counts("nuwatch_assets", "Assets seen.", "asset_class", figures.assets)
        yield _family(
            "nuwatch_ratio_largest",
            "The largest of the assets' newest ratios; 1 is the limit.",
            ["asset_class", "scorer"],
            figures.largest,
        )
        yield _counts("nuwatch_gate_assets", "Assets by the gate of tracking.", "gate", figures.gates)
        yield _counts("nuwatch_drift_assets", "Assets by drift state.", "state", figures.drifts)
        yield _counts("nuwatch_incidents_open", "Open incidents; silences not counted.", "kind", figures.open)

    @staticmethod
    def _of_own_assets(figures: Figures) -> Iterator[Any]:
        own = figures.own
        yield _family(
            "nuwatch_asset_ratio",
            "Newest ratio of an asset; 1 is the limit.",
            ["asset", "scorer"],
            {(each.asset, scorer): ratio for each in own for scorer, ratio in each.ratios.items()},
        )
        yield _family(
            "nuwatch_asset_threshold_version",
            "Threshold version in force.",
            ["asset"],
            {(each.asset,): each.version for each in own},
        )
        yield _family(
            "nuwatch_asset_limit",
            "Limit in force, in trained ratios.",
            ["asset"],
            {(each.asset,): each.limit for each in own},
        )
        yield _family(
            "nuwatch_asset_gate",
            "1 at the gate of an asset's tracking.",
            ["asset", "gate"],
            {(each.asset, each.gate): 1 for each in own},
        )
        yield _family(
            "nuwatch_asset_drift",
            "1 at an asset's drift state.",
            ["asset", "state"],
            {(each.asset, each.drift): 1 for each in own},
        )


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _counts(name: str, text: str, label: str, counts: Counts[str]) -> GaugeMetricFamily:
    return _family(name, text, [label], {(key,): count for key, count in counts.items()})


def _family(name: str, text: str, labels: list[str], values: dict[Any, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in key], float(value))
    return family
