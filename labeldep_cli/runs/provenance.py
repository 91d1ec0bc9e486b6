"""What a run's scores depend on."""

from __future__ import annotations

from typing import Any

from labeldep_cli.compute.versions import versions
from labeldep_cli.datasets.split import Split
from labeldep_cli.files import sha256
from labeldep_cli.runs.run import Run


def protocol_of(run: Run, split: Split, ap: str) -> dict[str, Any]:
    """What a run's scores on a split depend on, except the decision rule. It contains no path and no time.

    Args:
        run: the run.
        split: the scored rows.
        ap: the variant of average precision.
    """
    return {
        "ids_sha256": split.ids_hash,
        "labels_sha256": split.space.fingerprint,
        "split_seed": run.source().split_seed,
        "stratify": run.source().stratify,
        "fold": run.source().fold,
        "transform": run.facts["preprocessing"],
        "ap": ap,
        "backbone": run.facts["backbone"],
        "weights_sha256": run.facts["weights_sha256"],
        "stage": run.facts["stage"],
        "full": run.full,
        "step": run.facts["step"],
        "seed": run.facts["seed"],
        "label_reduction": run.label_reduction,
        "checkpoint_sha256": sha256(run.best),
        "versions": versions(),
    }
