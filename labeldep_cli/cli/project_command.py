"""A command that takes the flags of a project file."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from labeldep_cli.cli import project_file


class ProjectCommand(TyperCommand):
    """Checks the project file once its own flags are read, so that a faulty file stops the command but not `--help`."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - click's context, which typer may bring with it
        """Run the command.

        Raises:
            LabeldepError: the project file has a fault that concerns this command.
        """
        project_file.require_sound(ctx)
        return super().invoke(ctx)
