"""A command that takes the flags of a project file."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from labeldep_cli.cli import project_file
from labeldep_cli.cli.show import print_note
from labeldep_cli.config import BACKBONE
from labeldep_cli.datasets.formats import holds_features


class ProjectCommand(TyperCommand):
    """Checks the project file after the command's flags are read: a faulty file stops the command, but not `--help`."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - click's context, which typer may bring with it
        """Run the command.

        Raises:
            LabeldepError: the project file has a fault that concerns this command.
        """
        project_file.require_sound(ctx)
        _leave_out_backbone(ctx)
        return super().invoke(ctx)


def _leave_out_backbone(ctx: Any) -> None:  # noqa: ANN401 - as above
    """Drop what [defaults] says about a backbone for a data set of ready features, which takes none; a note says so."""
    dataset = ctx.params.get("what") or ctx.params.get("dataset")
    if not isinstance(dataset, str) or not holds_features(dataset):
        return
    file = project_file.of_call(ctx)
    dropped = [name for name in BACKBONE if _is_common(ctx, file, name)]
    ctx.params.update(dict.fromkeys(dropped))
    if dropped:
        names = " and ".join(name.replace("_", "-") for name in dropped)
        print_note(f"{file.path}, [{project_file.DEFAULTS}]: {names} left out, since {dataset} holds ready features")


def _is_common(ctx: Any, file: project_file.ProjectFile, name: str) -> bool:  # noqa: ANN401 - as above
    """Whether a flag has its value from [defaults], and not from a run's config.json or the command's own table."""
    source, value = ctx.get_parameter_source(name), ctx.params.get(name)
    is_default = source is not None and source.name == "DEFAULT_MAP" and not file.is_own(str(ctx.info_name), name)
    return is_default and value is not None and value == file.defaults.get(name)
