"""The typed configuration: every setting, its default and its meaning, in one place.

YAML overrides these defaults; unknown keys are errors. The JSON Schema for editors is generated from here.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from monitor.quantities import Duration, Instant

Role = Literal["pv", "setpoint", "output", "mode", "discrete", "counter", "lab", "ambient"]
SCORED_ROLES: frozenset[str] = frozenset({"pv", "output", "ambient"})
"""Roles whose sensors are scored; the others are context, never z-scored."""


def _s(text: str) -> Duration:
    return Duration.parse(text)


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the configuration: immutable, and an unknown key is an error."""


class Sensor(Section, frozen=True):
    """One measured channel of the assets of a class.

    Attributes:
        unit: UCUM code, for example Cel, bar, kg/h.
        range: engineering range [low, high] in the unit; a reading outside is a SENSOR_FAULT and is masked.
        role: what it is to the process; set-points, modes, discretes, counters and lab values are context.
        tag: its name in messages and files; default: the sensor's name.
        reporting: 'periodic', or 'on_change' (report by exception): then holding still is not a fault.
        heartbeat: on_change only: the longest normal time between two readings.
        aggregate: how a grid slot with several readings takes its value.
        deadband: changes up to this size are not movement, in the unit; used by the stuck check.
        stuck_after: no movement for this long is SENSOR_FAULT (stuck); null: learnt from normal.
        dead_after: no reading for this long while the asset reports is SENSOR_FAULT (dead); null: 10
            samplings or 3 heartbeats.
        derive: computed when messages do not carry it: time since batch or phase start, in the unit.
        sigma_floor: the smallest standard deviation used for scaling, in the unit (the sensor's resolution).
        recentre: true lets windows be scored around a centre that follows this sensor slowly, as `drift.recentring`
            says; for `ambient` sensors and for measurements that nothing controls and no safety limit is set on.
    """

    unit: str
    range: tuple[float, float] | None = None
    role: Role = "pv"
    tag: str | None = None
    reporting: Literal["periodic", "on_change"] = "periodic"
    heartbeat: Duration | None = None
    aggregate: Literal["last", "mean", "max"] = "last"
    deadband: float = 0.0
    stuck_after: Duration | None = None
    dead_after: Duration | None = None
    derive: Literal["time_since_batch_start", "time_since_phase_start"] | None = None
    sigma_floor: float = 0.0
    recentre: bool = False


class EventTime(Section, frozen=True):
    """How event time becomes grid slots.

    Attributes:
        lateness: an asset's watermark trails its highest accepted time by this much.
        max_age: a missing sensor is carried forward at most this long, then masked.
        max_future: a reading further ahead than this is held until three in a row agree.
        silence: a longer gap between two accepted readings is a DATA_GAP.
        late: what happens to a reading behind a closed slot, besides being counted.
        slot_rows: rows of one asset that wait for one slot to close, at most; more are dead letters, CROWDED.
    """

    lateness: Duration = _s("5s")
    max_age: Duration = _s("10s")
    max_future: Duration = _s("1h")
    silence: Duration = _s("5min")
    late: Literal["dead_letter", "count"] = "dead_letter"
    slot_rows: int = 100_000


class Window(Section, frozen=True):
    """The windows that are scored.

    Attributes:
        length: grid samples per window (T).
        stride: samples between two window ends.
        min_coverage: a window with a smaller share of real readings is not scored; a DATA_GAP opens. The default
            lets one of three sensors fail without blinding the asset.
        min_maturity: with batches, the first window is scored after this share of `length` samples of the
            batch; until a window is full its threshold is that of windows of the same maturity.
    """

    length: int = 64
    stride: int = 1
    min_coverage: float = 0.6
    min_maturity: float = 0.25


class Batches(Section, frozen=True):
    """How batch context is used.

    Attributes:
        fresh_window: what starts a fresh window: a batch's start, a phase change too, or neither.
        align: subtract the mean trajectory by recipe and phase, indexed by time since the phase's start.
    """

    fresh_window: Literal["batch", "phase", "never"] = "batch"
    align: bool = False


class Auto(Section, frozen=True):
    """How `scorers: auto` chooses; see docs/scorers.md.

    Attributes:
        candidates: scorers to compare, with their hyperparameters; {} takes lstm_autoencoder, mewma, ocnn, pca,
            var and those of installed packages.
        margin: shares of planted faults seen that differ by less are a tie; what is added must gain more.
        faults: planted faults of every kind and size; more tell smaller differences apart.
        fit_windows: windows that fit a candidate for the comparison, at most; the chosen ones are then fitted
            to `scoring.fit_windows`.
    """

    candidates: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    margin: float = 0.03
    faults: int = 12
    fit_windows: int = 4_000


class Scoring(Section, frozen=True):
    """Which scorers judge a window, and how their ratios become one.

    Attributes:
        scorers: names with their hyperparameters, as in docs/scorers.md; {} takes the defaults. Or 'auto': training
            compares several on normal data alone and takes the best, as `auto` says.
        auto: how 'auto' chooses.
        combine: 'any' takes the largest ratio, 'all' the smallest.
        smoothing: weight of the newest ratio in the EWMA over time; 1 is no smoothing.
        block: windows per compiled block; part of the bundle, because results depend on it in the last bits.
        fit_windows: windows that fit the scorers at most; a longer history is thinned evenly.
        trim: largest share of the history that training may leave out because it is unlike the rest of it, so that a
            fault in it is not learnt as normal; what was left out, and why, is in its output and report. 0: nothing is.
        seed: of training; the same data, configuration and seed give the same bundle.
    """

    scorers: Literal["auto"] | dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"lstm_autoencoder": {}, "ocnn": {}}
    )
    auto: Auto = field(default_factory=Auto)
    combine: Literal["any", "all"] = "any"
    smoothing: float = 0.1
    block: Literal[16, 32, 64, 128, 256] = 64
    fit_windows: int = 20_000
    trim: float = 0.0
    seed: int = 0

    @property
    def named(self) -> dict[str, dict[str, Any]]:
        """The scorers that the configuration names: none if training is to choose."""
        return {} if self.scorers == "auto" else self.scorers


class Calibration(Section, frozen=True):
    """How the threshold is estimated from held-out normal scores.

    Attributes:
        nu: the fraction of normal windows allowed over the threshold.
        method: where calibration scores come from: 'holdout' keeps the history's end from the models; 'folds'
            takes every window's score from models that were fitted without its fold, and fits the bundle's models
            to all of the history; 'auto' is holdout where that is enough for nu, else folds.
        folds: contiguous folds, at most; each is at least three windows long. null: 5, or 10 where rows
            are few (under 40 per sensor) and no scorer trains in epochs: more folds leave less to correct.
        holdout: share of the history, at its end, that fits no model; its first half sets the scorers'
            scales, its second half the limit of the combined, smoothed ratio.
        enough: n_eff * nu must reach this, or the threshold is called UNCALIBRATED; likewise the incidents that
            `budget` allows in the calibration time.
        budget: false incidents per asset and week, under `alerting`'s delays. Training converts it to the nu of the
            combined ratio's limit; where the history is too short for that, the limit stays at `nu` and the threshold
            is called UNCALIBRATED. null: `nu` is what is asked.
        extrapolate: where the calibration scores are worth fewer than 1 / nu independent ones, move the limit out along
            their tail to where nu is expected; the threshold stays UNCALIBRATED and is marked EXTRAPOLATED. false: the
            order statistic alone, which so few scores exceed too often.
    """

    nu: float = 0.01
    method: Literal["auto", "holdout", "folds"] = "auto"
    folds: int | None = None
    holdout: float = 0.4
    enough: float = 16.0
    budget: float | None = None
    extrapolate: bool = True


class Tracking(Section, frozen=True):
    """How the limit follows the scores between drifts; the gate is closed while an ANOMALY stands.

    Attributes:
        enabled: false holds the limit still between two re-estimations, as `re_estimate: approve` does too.
        rate: steps of the limit, in standard deviations of the normal ratio, per window over the limit (divided by
            the fourth root of the autocorrelation time). At 0.22 the limit has followed a benign step of half the score
            within some 500 windows.
        max_total: the largest factor that it may move the limit by, either way, since the last re-estimation.
        publish: the limit is published as a new threshold version when it has moved by this share since the last.
    """

    enabled: bool = True
    rate: float = 0.22
    max_total: float = 2.5
    publish: float = 0.2


class Recentring(Section, frozen=True):
    """How sensors with `recentre` are followed: one step per epoch, under the gate of tracking.

    Attributes:
        epoch: grid samples between two steps; a step rests on the epoch before the last.
        rate: share of the difference between a sensor's mean and its centre that one step makes up.
        max_total: furthest that a centre goes from the trained one, in standard deviations; 2 at most. Beyond 1 a DRIFT
            names the sensor.
    """

    epoch: int = 600
    rate: float = 0.25
    max_total: float = 2.0


class DriftSettings(Section, frozen=True):
    """When normal is said to have moved, and what may follow.

    Attributes:
        detector: river's drift detector.
        delta: ADWIN's confidence; the other detectors are set to the rate of false drifts that it has there.
        re_estimate: 'guarded' acts when the fault-safe conditions hold; 'approve' always asks a person.
        samples: scores needed for a re-estimation; null: enough for nu (see `calibration.enough`).
        max_step: the largest factor between the old and the new limit in one re-estimation.
        max_total: the largest factor between the trained limit and one that follows a drift.
        max_declared: the same after a declared change, whose cause is known.
        settle: how long after a declared change of context (recipe, phase, set-point) its shift is benign; by its end
            the asked rate of false alarms is back, under a provisional limit.
        tracking: how the limit follows the scores between drifts.
        recentring: how the centres of sensors with `recentre` follow them.
        sensor_false_alarms: mean time between two false DRIFTs of an asset's sensors, as their slow CUSUMs are set.
    """

    detector: Literal["adwin", "page_hinkley", "kswin", "none"] = "adwin"
    delta: float = 0.002
    re_estimate: Literal["guarded", "approve"] = "guarded"
    samples: int | None = None
    max_step: float = 1.5
    max_total: float = 3.0
    max_declared: float = 20.0
    settle: Duration = _s("1h")
    tracking: Tracking = field(default_factory=Tracking)
    recentring: Recentring = field(default_factory=Recentring)
    sensor_false_alarms: Duration = _s("365d")


class Alerting(Section, frozen=True):
    """The life of an incident.

    Attributes:
        on_delay: the ratio must stay over the limit this long before RAISED.
        off_delay: it must stay under the limit less `deadband` this long before CLEARED.
        deadband: hysteresis, as a share of the limit.
        realert: an UPDATED is sent this long after the last alert of an open incident; null: never.
        criticality: of these assets, 0 to 1; scales severity.
        fault_on_delay: the same on-delay for sensor faults and coverage gaps.
        fault_off_delay: the same off-delay for sensor faults and coverage gaps.
    """

    on_delay: Duration = _s("0s")
    off_delay: Duration = _s("30s")
    deadband: float = 0.1
    realert: Duration | None = _s("1h")
    criticality: float = 0.6
    fault_on_delay: Duration = _s("0s")
    fault_off_delay: Duration = _s("30s")


class AssetClass(Section, frozen=True):
    """Assets with the same sensors and the same models.

    Attributes:
        assets: asset names, or patterns such as 'poly2/*'.
        sampling: period of the event-time grid.
        sensors: the sensors by name, in the order of the model's columns.
        bundle: folder of the trained bundle, relative to the configuration file.
    """

    assets: tuple[str, ...]
    sampling: Duration
    sensors: dict[str, Sensor]
    bundle: str = "bundle"
    time: EventTime = field(default_factory=EventTime)
    window: Window = field(default_factory=Window)
    batches: Batches = field(default_factory=Batches)
    scoring: Scoring = field(default_factory=Scoring)
    calibration: Calibration = field(default_factory=Calibration)
    drift: DriftSettings = field(default_factory=DriftSettings)
    alerting: Alerting = field(default_factory=Alerting)


class Times(Section, frozen=True):
    """How times in messages and files are read.

    Attributes:
        unit: of integer times; never guessed.
        zone: IANA zone of times without an offset; null refuses them.
        range: readings outside [earliest, latest] go to the dead-letter channel.
    """

    unit: Literal["s", "ms", "us", "ns"] = "ms"
    zone: str | None = None
    range: tuple[Instant, Instant] = (
        Instant.parse("2000-01-01T00:00:00Z"),
        Instant.parse("2100-01-01T00:00:00Z"),
    )


class State(Section, frozen=True):
    """Durable state of the daemon.

    Attributes:
        directory: folder of the state file, relative to the configuration file.
        interval: time between two snapshots.
        outbox: events handed to the sink without its acknowledgement, at most; then the input waits for it.
        outbox_bytes: the same in bytes; the records of one poll may come on top.
        drain: longest time that a stop may take.
        retry: how long a sink that does not acknowledge, or a disk that cannot be written, is tried again before
            the daemon gives up; snapshots wait meanwhile, and offsets with them.
        changelog: Kafka topic that holds the state in place of the folder, so that several daemons of one group
            share the input. Compacted, with as many partitions as the input; source and sink must be Kafka.
    """

    directory: str = "state"
    interval: Duration = _s("5s")
    outbox: int = 10_000
    outbox_bytes: int = 67_108_864
    drain: Duration = _s("30s")
    retry: Duration = _s("5min")
    changelog: str | None = None


class ControlSettings(Section, frozen=True):
    """Commands for the daemon by a topic of the sink's cluster; see docs/control.md.

    Attributes:
        topic: of the commands, with one partition; null: there is none. Only Kafka has one.
    """

    topic: str | None = None


class Http(Section, frozen=True):
    """The daemon's own pages: /livez, /readyz and /metrics. They read only.

    Attributes:
        enabled: false opens no port.
        host: address to listen at.
        port: to listen at; 0 takes a free one, which the log names. A port that is taken is a warning: the daemon
            goes on without its pages.
        allow_remote: true allows a `host` that other machines can reach; nobody is asked who they are, and nothing is
            encrypted.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 9464
    allow_remote: bool = False


class Health(Section, frozen=True):
    """How the daemon watches itself; see docs/operations.md.

    Attributes:
        http: its pages.
        alerts: publish MONITOR_HEALTH alerts.
        max_lag: records that may wait at the source; with more the daemon is not ready, and after `delay` it says so.
        stuck: a loop that has not come round for so long is not live, and is ended.
        delay: a condition that lasts (lag, source, sink) is told after this long; what happens once is told at once.
        quiet: a condition is CLEARED when it has not been seen for so long.
        repeat: a condition that comes back is RAISED again at the earliest this long after the last time.
        assets: assets that have metrics of their own, at most: the first ones by name; the others count in the
            metrics over all assets.
    """

    http: Http = field(default_factory=Http)
    alerts: bool = True
    max_lag: int = 100_000
    stuck: Duration = _s("5min")
    delay: Duration = _s("30s")
    quiet: Duration = _s("1min")
    repeat: Duration = _s("10min")
    assets: int = 100


class Settings(Section, frozen=True):
    """The whole configuration.

    Attributes:
        site: name of the plant; the alerts' CloudEvents source is /nuwatch/<site>.
        source: where readings come from: `kind` is kafka, files or memory; the rest belongs to the connector.
        sink: where alerts go, likewise.
        asset_classes: what is watched.
        recordings: how recorded files look, a `files` source without its kind, for train and replay; null: the
            source itself.
        control: commands for the daemon by a topic.
        unknown_sensors: 'dead_letter' rejects a record that names a sensor that is not configured.
        max_record: larger records are rejected, in bytes.
        max_event: what is published is shortened to this size, in bytes; keep it below the topics' limit.
    """

    site: str
    source: dict[str, Any]
    asset_classes: dict[str, AssetClass]
    sink: dict[str, Any] = field(default_factory=lambda: {"kind": "memory"})
    recordings: dict[str, Any] | None = None
    times: Times = field(default_factory=Times)
    state: State = field(default_factory=State)
    control: ControlSettings = field(default_factory=ControlSettings)
    health: Health = field(default_factory=Health)
    unknown_sensors: Literal["dead_letter", "ignore"] = "dead_letter"
    max_record: int = 1_048_576
    max_event: int = 900_000
