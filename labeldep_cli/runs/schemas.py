"""What the files of a run hold: the schemas of config.json, result.json and metrics.jsonl.

A field of a `total=False` part is one that older versions did not write.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

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
