"""What the files of a run hold: the schemas of config.json, result.json, metrics.jsonl and of checkpoints' facts.

A field of a `total=False` part is one that older versions did not write.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from labeldep_cli.config import HeadKind, LabelReduction
from labeldep_cli.schemas import Count, Names, NonNegative, Positive, Real, Share, conform

Labels = Annotated[Names, Meta(min_length=1)]

Score = Annotated[float, Meta(ge=0, le=101)]
"""In percent, with room for rounding."""

Loss = Annotated[float, Meta(ge=-1e100, le=1e100)]
"""A loss or the norm of a gradient, which float32 held."""


class DatasetRecord(TypedDict):
    """The data set of a run: its name, and a fingerprint of the rows of each split."""

    name: str
    fingerprints: dict[str, str]


class WeightsRecord(TypedDict):
    """The weights file of a run's backbone."""

    path: str | None
    sha256: str | None


class StartRecord(TypedDict):
    """The run that a run started from."""

    run: str
    sha256: str


class BlocksRecord(TypedDict):
    """`inputs.batches.Blocks`."""

    rows: Positive
    pools: Positive


class SettingsRecord(TypedDict):
    """What --config takes from a config.json: the settings of a Source and of the command's config."""

    command: str
    settings: dict[str, Any]


class _Config(TypedDict):
    command: Literal["pretrain", "adversarial"]
    settings: dict[str, Any]
    data_dir: str
    features_dir: str
    dataset: DatasetRecord
    labels: Labels
    weights: WeightsRecord | None
    start: StartRecord | None
    steps: Positive


class ConfigRecord(_Config, total=False):
    """config.json."""

    views: Positive | None
    cached_z: bool
    blocks: BlocksRecord | None
    standardized: bool


class LabelScores(TypedDict):
    """The scores of a label; None where there is none, as a recall without a positive."""

    label: str
    precision: Score | None
    recall: Score | None
    f1: Score | None
    ap: Score | None
    count: Count


class _Selecting(TypedDict):
    mAP: Score
    CF1: Score
    OF1: Score
    exact_match: Score


class Scores(_Selecting, total=False):
    """An evaluation on val. The first four are in the records of every version."""

    decision: dict[str, Any]
    n_images: Count
    n_labels: Count
    CP: Score
    CR: Score
    OP: Score
    OR: Score
    macro_f1: Score
    labels_per_image: Annotated[float, Meta(ge=0, le=1e9)]
    true_labels_per_image: Annotated[float, Meta(ge=0, le=1e9)]
    skipped_labels: Count
    per_label: list[LabelScores]


class _Evaluation(TypedDict):
    step: Count
    val: Scores


Thresholds = TypedDict("Thresholds", {"tuned": Share, "tuned-per-label": list[Share]})
"""The thresholds that were tuned on val."""


class _Result(TypedDict):
    steps: Count
    best_step: Count
    stopped_early: bool
    val: Scores
    thresholds: Thresholds
    beta: NonNegative | None


class ResultRecord(_Result, total=False):
    """result.json. `prior` is the generator's weight beside a critic's."""

    prior: Real


class KeptCurve(TypedDict):
    """`evaluation.calibration.kept_curve`."""

    thresholds: list[Real]
    accepted: list[Count]
    right: list[Count]


class ConfidenceFacts(TypedDict):
    """How a kind of decision is calibrated, and why not where it is not."""

    temperature: Annotated[float, Meta(gt=0, le=1e30)]
    why: str | None
    val: dict[str, KeptCurve]


_Some = Annotated[int, Meta(ge=0, le=10_000)]
"""A number of layers or networks."""


class _NetworkShape(TypedDict):
    layers: _Some
    width: Positive
    projection: Positive
    slope: Real


class NetworkShape(_NetworkShape, total=False):
    """The arguments of `models.members.build_critic`."""

    conditional: bool
    members: Annotated[int, Meta(ge=1, le=10_000)]


class KernelShape(TypedDict):
    """`models.kernel_critic.KernelCritic.shape`."""

    kind: Literal["kernel"]
    landmarks: Positive
    rank: Count
    n_sets: Count
    n_frequent: Count


class TimmRecord(TypedDict):
    """The arguments of `models.timm_models.TimmModel`."""

    architecture: str
    config: dict[str, Any]
    options: dict[str, Any]


class _BestFacts(TypedDict):
    stage: str
    full: bool
    labels: Labels
    backbone: str | None
    feature_dim: Positive
    hidden: Count | None
    weights_sha256: str | None
    step: Count
    thresholds: Thresholds


class _Best(_BestFacts, total=False):
    dataset: str
    preprocessing: str | None
    compute_dtype: str | None
    timm: TimmRecord
    head: HeadKind
    seed: int
    label_reduction: LabelReduction
    critic: dict[str, Any] | None
    value: Real
    val: Scores
    beta: NonNegative | None
    prior: Real
    confidence: dict[str, ConfidenceFacts]


class _BestSoFar(TypedDict, total=False):
    step: Count
    value: Real
    val: Scores
    thresholds: Thresholds


class _Unevaluated(TypedDict, total=False):
    losses: dict[str, list[Loss]]
    gradient: dict[str, Loss]


class Marked(TypedDict, total=False):
    """What the facts of every kind of checkpoint may have: its format, its checksum and the step of its weights."""

    format: Count
    checksum: Count
    step: Count


class _LastFacts(TypedDict):
    step: Count
    history: list[dict[str, Any]]
    best: _BestSoFar
    stopped: bool


class _Last(_LastFacts, total=False):
    unevaluated: _Unevaluated


class _RowsFacts(TypedDict):
    labels: Labels
    has_features: bool


class _Rows(_RowsFacts, total=False):
    inherits_unknown: bool


_LOSS: Any = Loss  # to mypy, an annotated type is no type


def evaluation_of(value: object) -> dict[str, Any]:
    """A record of metrics.jsonl, unchanged: a step, the scores on val, and losses by name.

    Raises:
        ValueError: it is none; names the field.
    """
    record = conform(value, dict[str, Any])
    conform(record, _Evaluation)
    for name, loss in record.items():
        if name != "val":
            conform(loss, _LOSS, name)
    return record


def require_best(facts: dict[str, Any]) -> None:
    """Require the facts of `best.safetensors`; ValueError names a field that does not conform."""
    conform(facts, _Best)
    _require_distinct(facts["labels"])
    if len(facts["thresholds"]["tuned-per-label"]) != len(facts["labels"]):
        raise ValueError(f"thresholds.tuned-per-label: expected {len(facts['labels'])} numbers, one a label")
    critic = facts.get("critic")
    if critic is not None:
        conform(critic, KernelShape if "kind" in critic else NetworkShape, "critic")


def require_last(facts: dict[str, Any]) -> None:
    """Require the facts of `last.safetensors` that say where a training is; else ValueError, as `require_best`."""
    conform(facts, _Last)
    for number, record in enumerate(facts["history"]):
        try:
            evaluation_of(record)
        except ValueError as error:
            raise ValueError(f"history[{number}]: {error}") from error


def require_rows(facts: dict[str, Any]) -> None:
    """Require the facts of `rows.safetensors`; else ValueError, as `require_best`."""
    conform(facts, _Rows)
    _require_distinct(facts["labels"])


def _require_distinct(labels: list[str]) -> None:
    if len(set(labels)) < len(labels):
        raise ValueError("labels: expected no name twice")
