"""Results as rows of text for the terminal and the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labeldep_cli.experiments.comparison import Part

SCORE_NAMES = {
    "CP": "CP",
    "CR": "CR",
    "CF1": "CF1",
    "OP": "OP",
    "OR": "OR",
    "OF1": "OF1",
    "macro_f1": "mF1",
    "mAP": "mAP",
    "exact_match": "exact",
    "labels_per_image": "labels",
}
"""The short names of scores, to fit 80 characters."""

SUMMARY = tuple(SCORE_NAMES.values())
"""The columns of a summary. Macro F1, exact match and labels per image have short names, to fit 80 characters."""

_DEMO = ("CF1", "OF1", "mAP", "exact_match", "labels_per_image")
DEMO = tuple(SCORE_NAMES[name] for name in _DEMO)
"""The columns of the demo's final table, after model and decision."""

SEEN = ("", "images", *SUMMARY)
"""The columns of `seen_rows`."""

Row = Sequence[str]

_OVER_LABELS = {"mean": "averaged over", "sum": "summed over"}


def number(value: float | None) -> str:
    """A score as text, at most five characters: two decimals, or a dash if there is none."""
    return "-" if value is None else f"{value:.2f}"[:5]


def summary(scores: Mapping[str, Any]) -> list[str]:
    """The cells of the columns `SUMMARY`, from an evaluation's JSON."""
    return [number(scores[name]) for name in SCORE_NAMES]


def per_label(scores: Mapping[str, Any]) -> list[Row]:
    """One row per label: name, precision, recall, F1, AP, count."""
    return [
        [row["label"], *(number(row[key]) for key in ("precision", "recall", "f1", "ap")), str(row["count"])]
        for row in scores["per_label"]
    ]


def seen_rows(scores: Mapping[str, Any]) -> list[Row]:
    """All images, those whose true set occurs in train, and the others; no rows if a part is empty or unknown."""
    parts = {"all": scores, "seen": scores.get("seen"), "unseen": scores.get("unseen")}
    if any(part is None for part in parts.values()):
        return []
    return [[name, str(part["n_images"]), *summary(part)] for name, part in parts.items() if part is not None]


def seen_exact(scores: Mapping[str, Any]) -> list[str]:
    """Exact match on images whose true set occurs in train, and on the others; a dash where there is none."""
    return [number(None if scores.get(part) is None else scores[part]["exact_match"]) for part in ("seen", "unseen")]


def exact_by_seen(parts: Mapping[str, Part]) -> tuple[Row, list[Row]] | None:
    """Header and rows: the differences of exact match on seen and unseen label sets; None if a part has no image."""
    if not parts or any(part.n_images == 0 for part in parts.values()):
        return None
    titles = {"seen": "is in train", "unseen": "is not"}
    header = ["decision", *(f"{titles[name]} ({part.n_images} images)" for name, part in parts.items())]
    rules = next(iter(parts.values())).exact_match
    return header, [[rule, *(part.exact_match[rule].text for part in parts.values())] for rule in rules]


def decision(rule: Mapping[str, Any]) -> str:
    """A decision rule in words: "p > 0.5", "top 3", "p > 0.34 (tuned on val)"."""
    kind = ", expected F1" if rule["rule"] == "expected-f1" else ""
    if rule["source"].startswith("own posterior"):
        return f"{rule['source']}{kind}"
    if "beta" in rule:
        return f"critic{kind}, beta {rule['beta']:g} ({rule['source']})"
    words = []
    if "k" in rule:
        words.append(f"top {rule['k']}")
    if "threshold" in rule:
        threshold = rule["threshold"]
        words.append("p > its label's threshold" if isinstance(threshold, list) else f"p > {threshold:.4g}")
    if rule["non_empty"]:
        words.append("never empty")
    source = rule["source"]
    return ", ".join(words) + (f" ({source})" if source.startswith("tuned") else "")


def confidence(scores: Mapping[str, Any]) -> list[str]:
    """What the confidences of a run's sets are worth, in two lines; empty if no row has a known label.

    Args:
        scores: the value of the key `confidence` of an evaluation's JSON.
    """
    if scores["AURC"] is None:
        return []
    kind = f"temperature {scores['temperature']:.3g}" if scores["calibrated"] else "not calibrated"
    return [
        f"confidence of a set ({kind}): {_worth(scores)}",
        f"  independent labels, p > 0.5: {_worth(scores['independent'])}",
    ]


def _worth(scores: Mapping[str, Any]) -> str:
    precisions, shares = (
        ", ".join(scores["coverage"]),
        ", ".join(f"{share:.1f}" for share in scores["coverage"].values()),
    )
    return (
        f"AURC {scores['AURC']:.2f}; accepted at {precisions} % right: {shares} %; ECE {scores['ECE']:.1f} "
        f"(by chance {scores['ECE_by_chance']:.1f})"
    )


def protocol(split: str, provenance: Mapping[str, Any]) -> str:
    """One line that says what the scores depend on; hashes are shortened."""
    weights = f" (weights {provenance['weights_sha256'][:8]})" if provenance["weights_sha256"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return (
        f"protocol: {split} rows {provenance['ids_sha256'][:8]} (split seed {provenance['split_seed']}), "
        f"labels {provenance['labels_sha256'][:8]}, {provenance['backbone'] or 'ready features'}{weights}, "
        f"{provenance['transform'] or 'no transform'}, {provenance['stage']}{' full' if provenance['full'] else ''} "
        f"step {provenance['step']} seed {provenance['seed']}, "
        f"loss {_OVER_LABELS[provenance['label_reduction']]} labels, {provenance['ap']} AP; {versions}"
    )


def dependency_rows(rule: Mapping[str, Any], dependency: Mapping[str, Any]) -> list[Row]:
    """One row per kind of predicted label sets: how far they are from the real sets."""
    return [
        [
            name,
            "-" if kind["lift_error"] is None else f"{kind['lift_error']:.3f}",  # no pair is frequent enough
            f"{kind['cardinality_distance']:.3f}",
            f"{100 * kind['unseen_pairs']:.1f} %",
            f"{100 * kind['unseen_sets']:.1f} %",
            f"{kind['p_value']:.3f}",
        ]
        for name, kind in ((decision(rule), dependency["decided"]), ("sampled from p(label)", dependency["sampled"]))
    ]


def demo_rows(demo: Mapping[str, Any]) -> list[Row]:
    """The final table of `labeldep demo`: three models at p > 0.5 and at the tuned threshold, and the critic's sets."""
    rows: list[Row] = []
    for name in ("baseline", "control", "adversarial"):
        for scores in (demo[name], demo[name]["tuned"]):
            rows.append([name, decision(scores["decision"]), *(number(scores[key]) for key in _DEMO)])
    critic = demo["critic"]
    return [*rows, ["baseline", decision(critic["decision"]), *(number(critic[key]) for key in _DEMO)]]
