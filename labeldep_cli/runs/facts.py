"""What checkpoints say of themselves beside their tensors: the schemas of their facts, as in `runs.schemas`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from labeldep_cli.config import HeadKind, LabelReduction
from labeldep_cli.runs.schemas import Labels, Loss, Scores, Thresholds, evaluation_of
from labeldep_cli.schemas import Count, NonNegative, Positive, Real, conform


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
