"""Every setting and its default, once. The command line reads its defaults from here."""

from labeldep_cli.config.choices import (
    BACKBONE_NAMES,
    DEFAULT_BACKBONE,
    DEFAULT_EXPORT_FORMAT,
    DEFAULT_HEAD,
    PAPER_BACKBONES,
    CriticKind,
    Decided,
    ExportFormat,
    HeadKind,
    Loss,
    Precision,
    Sampling,
    Selection,
)
from labeldep_cli.config.place import DownloadConfig, ExtractConfig, Machine, Place, Source, Workspace
from labeldep_cli.config.settings import changed, pick
from labeldep_cli.config.training import AdversarialConfig, Config, PretrainConfig, TrainingConfig
from labeldep_cli.config.using import AuditConfig, DecisionConfig, ReportConfig, ReproduceConfig

__all__ = [
    "BACKBONE_NAMES",
    "DEFAULT_BACKBONE",
    "DEFAULT_EXPORT_FORMAT",
    "DEFAULT_HEAD",
    "PAPER_BACKBONES",
    "AdversarialConfig",
    "AuditConfig",
    "Config",
    "CriticKind",
    "Decided",
    "DecisionConfig",
    "DownloadConfig",
    "ExportFormat",
    "ExtractConfig",
    "HeadKind",
    "Loss",
    "Machine",
    "Place",
    "Precision",
    "PretrainConfig",
    "ReportConfig",
    "ReproduceConfig",
    "Sampling",
    "Selection",
    "Source",
    "TrainingConfig",
    "Workspace",
    "changed",
    "pick",
]
