"""Read a run's config.json and result.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeldep_cli.config import AdversarialConfig, LabelReduction, PretrainConfig, Source, TrainingConfig, pick
from labeldep_cli.errors import CheckpointError
from labeldep_cli.runs.layout import CONFIG, RESULT
from labeldep_cli.runs.schemas import ConfigRecord, ResultRecord, SettingsRecord
from labeldep_cli.schemas import conform, parse_json, require_unchanged

COMMANDS: dict[str, type[TrainingConfig]] = {"pretrain": PretrainConfig, "adversarial": AdversarialConfig}
"""The config of each command that trains."""

CLOCK = ("started",)
"""The fields of config.json that its checksum leaves out: two runs of the same command differ in them."""

LABEL_REDUCTION_BEFORE: LabelReduction = "sum"
"""The reduction over labels in Eq. 1 of older runs, which did not record it."""


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
        CheckpointError: the file is missing or broken; names the field.
    """
    path, remedy = folder / CONFIG, "Train the run again from scratch: the same command with --fresh."
    try:
        return _checked(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no {path}", remedy) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is broken: {error}", remedy) from error


def read_run_record(folder: Path) -> dict[str, Any] | None:
    """The config.json of a run's folder; None if the folder is not that of a run.

    Raises:
        OSError, ValueError: the file is broken; a ValueError names the field.
    """
    if not (folder / CONFIG).is_file():
        return None
    record = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        return None
    return _checked(record) if record.get("command") in [*COMMANDS] else None


def _checked(record: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """A config.json, unchanged, if it is sound; else ValueError."""
    conform(record, ConfigRecord)
    require_unchanged(record, CLOCK)
    _require_settings(record["settings"], COMMANDS[record["command"]])
    return dict(record)


def settings_in(text: str) -> tuple[str, dict[str, Any]]:
    """The command and the settings of a config.json; of the other fields any may be missing.

    Raises:
        ValueError: they are missing, or a setting is broken; names it.
    """
    record = conform(parse_json(text), SettingsRecord)
    _require_settings({"dataset": "", **record["settings"]}, COMMANDS.get(record["command"], AdversarialConfig))
    return record["command"], record["settings"]


def _require_settings(settings: Mapping[str, Any], config: type[TrainingConfig]) -> None:
    try:
        pick(Source, settings)
        pick(config, settings)
    except ValueError as error:
        raise ValueError(f"settings.{error}") from error


def result_of(folder: Path) -> dict[str, Any] | None:
    """The result.json of a run; None if the run is not finished, or the file is broken."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = parse_json(path.read_text(encoding="utf-8"))
        conform(result, ResultRecord)
        return dict(result)
    except (OSError, ValueError):
        return None
