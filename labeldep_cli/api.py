"""The public Python API: the names that stay stable, described in docs/api.md.

This module imports torch. `labeldep_cli` imports it when one of the names is first used.
"""

from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.labelling.model import load
from labeldep_cli.projects.load_features import load_features
from labeldep_cli.training.label_dependency import LabelDependencyLoss

__all__ = ["FeatureCache", "LabelDependencyLoss", "LabeldepError", "load", "load_features"]
