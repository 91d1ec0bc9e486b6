"""The command line: flags -> config -> one pipeline call -> print, exit code.

Only this room catches LabeldepError. No module here imports torch or numpy before a command runs.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labeldep_cli import __version__
from labeldep_cli.cli import (
    audit,
    backbones,
    compare,
    data,
    demo,
    dependency,
    doctor,
    evaluate,
    export,
    extract,
    features,
    importing,
    init,
    predict,
    project_file,
    report,
    reproduce,
    review,
    runs,
    termination,
    torchrun,
    train,
    tune,
)
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.command_flags import flags_of_command
from labeldep_cli.cli.commands import command
from labeldep_cli.cli.memory import out_of_gpu_memory
from labeldep_cli.cli.project_command import ProjectCommand
from labeldep_cli.cli.show import print_error, print_note
from labeldep_cli.compute import interruption
from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import FULL
from labeldep_cli.text import WRITE_ANYWAY, visible

_RESUMABLE = ("extract", "pretrain", "adversarial", "demo", "reproduce", "audit", "tune")


class _Commands(TyperGroup):
    """The group of all commands. It turns errors that a user can mend into a message and an exit code."""

    def main(self, *args: object, **kwargs: object) -> object:
        """Run a command line. Errors raised while flags are read are caught too."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=WRITE_ANYWAY)  # prints the bytes of file names that are not UTF-8
        try:
            with torchrun.first_process_prints():
                return super().main(*args, **kwargs)  # type: ignore[arg-type]
        except LabeldepError as error:
            print_error(error)
            sys.exit(ExitCode.ERROR)
        except OSError as error:
            if error.errno not in FULL or error.filename is not None:
                raise
            with suppress(OSError):  # stderr may lie on the same disk
                print_error(LabeldepError("no space left to write the output", "Send it to another disk."))
            sys.exit(ExitCode.ERROR)
        except SystemExit as exit_:
            if not exit_.code:
                torchrun.leave()
            raise

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in click
        """Read the flags before the command."""
        with _shown_as_they_are():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - click's context, which typer may bring with it
        """Run one command."""
        try:
            with termination.as_interruption(), _shown_as_they_are():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            # Python notes where code in a string was interrupted, and would end by SIGINT whatever the exit code is.
            exec("")
            kept = ": the work so far is kept, the same command (without --fresh) continues from there"
            with suppress(KeyboardInterrupt, OSError):  # one more; the terminal is closed
                print_note(f"interrupted{kept if ctx.invoked_subcommand in _RESUMABLE else ''}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except RuntimeError as error:
            explained = out_of_gpu_memory(error, self.commands.get(str(ctx.invoked_subcommand), self))
            if explained is None:
                raise
            raise explained from error


@contextmanager
def _shown_as_they_are() -> Iterator[None]:
    """Escape what a user typed in the message of a wrong flag or argument, which click shows in a box."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            error.message = visible(message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cache
def _flags() -> project_file.Commands:
    """The flags of each command that a project file may set."""
    callbacks = {str(info.name): info.callback for info in app.registered_commands}
    return {name: flags_of_command(callback) for name, callback in callbacks.items() if callback and name != "init"}


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"labeldep {__version__}")
        raise typer.Exit


@app.callback()
def labeldep(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    project: Annotated[
        Path | None,
        typer.Option(
            envvar=project_file.VARIABLE,
            metavar="FILE",
            callback=project_file.loading(_flags),
            help="Project file that sets flags for all commands, or its folder.",
            show_default=f"{project_file.NAME} in this folder, if there is one",
        ),
    ] = None,
) -> None:
    """Multi-label classification that knows which labels go together.

    Try it: labeldep demo
    """
    interruption.interrupt_if_kept()
    torchrun.require_shared(ctx.invoked_subcommand)


app.command("demo", cls=ProjectCommand)(command(demo.demo))
app.command("init", cls=ProjectCommand)(command(init.init))
app.command("doctor", cls=ProjectCommand)(command(doctor.doctor))
app.command("import", cls=ProjectCommand)(command(importing.import_))
app.command("data", cls=ProjectCommand)(command(data.data))
app.command("backbones", cls=ProjectCommand)(command(backbones.backbones))
app.command("extract", cls=ProjectCommand)(command(extract.extract))
app.command("pretrain", cls=ProjectCommand)(command(train.pretrain))
app.command("adversarial", cls=ProjectCommand)(command(train.adversarial))
app.command("tune", cls=ProjectCommand)(command(tune.tune))
app.command("features", cls=ProjectCommand)(command(features.features))
app.command("runs", cls=ProjectCommand)(command(runs.runs))
app.command("eval", cls=ProjectCommand)(command(evaluate.evaluate))
app.command("compare", cls=ProjectCommand)(command(compare.compare))
app.command("dependency", cls=ProjectCommand)(command(dependency.dependency))
app.command("audit", cls=ProjectCommand)(command(audit.audit))
app.command("review", cls=ProjectCommand)(command(review.review))
app.command("predict", cls=ProjectCommand)(command(predict.predict))
app.command("export", cls=ProjectCommand)(command(export.export))
app.command("report", cls=ProjectCommand)(command(report.report))
app.command("reproduce", cls=ProjectCommand)(command(reproduce.reproduce))


def main() -> None:
    """Entry point of `labeldep`."""
    torchrun.end_with_agent()
    try:
        app(prog_name="labeldep")
    except KeyboardInterrupt:  # before a command begins, or after its end
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        termination.end_at_once()
