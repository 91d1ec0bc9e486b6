"""The critics by the values of `--critic`."""

from __future__ import annotations

from collections.abc import Mapping

from labeldep_cli.config import CriticKind
from labeldep_cli.training.critics.base import CriticObjective
from labeldep_cli.training.critics.density_ratio import DensityRatioCritic
from labeldep_cli.training.critics.wasserstein import WassersteinCritic

CRITICS: Mapping[CriticKind, type[CriticObjective]] = {
    "wgan-gp": WassersteinCritic,
    "nce": DensityRatioCritic,
}
"""A critic is built as CRITICS[kind](config). "none", the control, trains no critic and has no row."""
