"""The figures of an evaluation: immutable records that `msgspec.json.encode` writes. None: cannot be said."""

from __future__ import annotations

from msgspec import Struct

from monitor.evaluation.realised import Realised


class Counts(Struct, frozen=True, kw_only=True):
    """Scored windows by label and by side of the limit; 'positive' is a ratio over 1."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


class Ranking(Struct, frozen=True, kw_only=True):
    """How well ratios order anomalous above normal windows, at any limit.

    Attributes:
        roc_auc: area under the ROC curve; 0.5 is chance.
        pr_auc: average precision; chance is ``anomalous_share``.
        anomalous_share: of the scored, labelled windows.
    """

    roc_auc: float | None
    pr_auc: float | None
    anomalous_share: float | None


class Rate(Struct, frozen=True, kw_only=True):
    """The share of windows over the limit where that should be rare.

    Attributes:
        basis: which windows it is of: 'normal' by label, else 'unlabelled' (faults may be among them).
        windows: how many they are.
        exceedances: how many of them are over the limit.
        asked: nu.
        realised: exceedances / windows.
        tau: integrated autocorrelation time of the exceedances, in windows; None without any.
        low: lower end of the 95 % interval of the realised rate (Wilson's, at windows / tau).
        high: upper end; approximate under autocorrelation.
    """

    basis: str
    windows: int
    exceedances: int
    asked: float
    realised: float | None
    tau: float | None
    low: float | None
    high: float | None


class IncidentRates(Struct, frozen=True, kw_only=True):
    """Incidents per time; 'false' are ANOMALY and SENSOR_FAULT raised where the label is normal.

    Attributes:
        days: monitored days, summed over assets; gaps in the data are not counted.
        by_kind: number of incidents by kind.
        anomalies_per_day: ANOMALY incidents per asset and day.
        false: None without labels.
        false_per_week: per asset and week.
    """

    days: float
    by_kind: dict[str, int]
    anomalies_per_day: float | None
    false: int | None
    false_per_week: float | None


class Detection(Struct, frozen=True, kw_only=True):
    """How one labelled fault was seen; delays in seconds from its start, None where it was not.

    Attributes:
        asset: the asset's name.
        name: the label's.
        start: ISO 8601.
        end: ISO 8601.
        windows: scored windows that end in it.
        first_delay_s: to the first window over the limit.
        third_delay_s: to the third of three consecutive windows over the limit.
        incident_delay_s: to the first ANOMALY or SENSOR_FAULT raised.
        over_before: the last scored window before it was over the limit already: its delay is no achievement.
    """

    asset: str
    name: str
    start: str
    end: str
    windows: int
    first_delay_s: float | None
    third_delay_s: float | None
    incident_delay_s: float | None
    over_before: bool


class Delays(Struct, frozen=True, kw_only=True):
    """Detections in sum; the medians are of the detected faults, so read them with ``undetected``."""

    faults: int
    detected: int
    undetected: int
    detected_by_three: int
    raised: int
    median_first_s: float | None
    median_third_s: float | None
    median_incident_s: float | None


class Figures(Struct, frozen=True, kw_only=True):
    """All figures of one asset, or of all of them pooled.

    Attributes:
        windows: windows in the trace.
        scored: those with enough coverage and maturity.
        share_scored: scored / windows.
        anomalous_unscored: windows labelled anomalous that were not scored, and so could not be found.
        counts: None without labels, as are the rates below.
        precision: of the windows over the limit, the share that is anomalous.
        recall: of the anomalous windows, the share over the limit.
        f1: harmonic mean of the two.
        false_alarm_rate: of the normal windows, the share over the limit.
        missed_alarm_rate: of the anomalous windows, the share not over the limit.
        ranking: of the combined, smoothed ratio.
        rate: asked against realised nu.
        incidents: per time.
        delays: None without labels.
        decisive_ratio: the smallest |ratio - 1|: unlike machines agree on incidents while it exceeds 1e-4.
    """

    windows: int
    scored: int
    share_scored: float | None
    anomalous_unscored: int
    counts: Counts | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarm_rate: float | None
    missed_alarm_rate: float | None
    ranking: Ranking
    rate: Rate
    incidents: IncidentRates
    delays: Delays | None
    decisive_ratio: float | None


class ScorerFigures(Struct, frozen=True, kw_only=True):
    """One scorer by its own, unsmoothed ratio, over all assets."""

    name: str
    ranking: Ranking
    rate: Rate


class Decisive(Struct, frozen=True, kw_only=True):
    """The window whose ratio lies nearest to the limit."""

    distance: float
    asset: str
    end: str


class Evaluation(Struct, frozen=True, kw_only=True):
    """The figures of one asset class; `msgspec.json.encode` writes it.

    Attributes:
        asset_class: the class's name.
        labelled: whether any scored window has a label.
        pooled: over all windows of all assets.
        assets: by asset name, in the trace's order.
        scorers: each scorer alone.
        detections: every labelled fault that the trace reaches, in order of asset and start.
        decisive: the window nearest to the limit.
        notes: what cannot be said, and why.
        realised: asked and realised nu by asset, recipe and phase, over windows not known to be anomalous.
    """

    asset_class: str
    labelled: bool
    pooled: Figures
    assets: dict[str, Figures]
    scorers: tuple[ScorerFigures, ...]
    detections: tuple[Detection, ...]
    decisive: Decisive | None
    notes: tuple[str, ...]
    realised: tuple[Realised, ...] = ()
