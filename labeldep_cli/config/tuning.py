"""Settings of the search over settings, `labeldep tune`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labeldep_cli.config.settings import like, setting
from labeldep_cli.config.training import TrainingConfig

TuneScore = Literal["exact_match", "OF1", "CF1", "macro_f1", "mAP"]


@dataclass(frozen=True)
class TuneConfig:
    """What a search raises, and when it ends.

    Attributes:
        score: measured on val, under the best decision of each trial.
        trials, budget: a trial that has begun is finished; None for no limit.
    """

    score: TuneScore = setting("exact_match", "Score on val that the search raises.", flag="--for")
    trials: int | None = setting(None, "Train and score at most this many trials.", min=1, default_text="all of --plan")
    budget: float | None = setting(
        None, "Begin no trial after this many minutes.", min=0, metavar="MINUTES", default_text="no limit"
    )
    seed: int = like(TrainingConfig, "seed")
