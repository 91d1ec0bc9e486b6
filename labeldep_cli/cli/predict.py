"""`labeldep predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, TextIO

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.accepted import Sorted, check
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.formats import Form, Format, open_form
from labeldep_cli.cli.next_command import passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, json_line, print_json, print_line, print_note
from labeldep_cli.config import AcceptConfig, DecisionConfig, Machine, RunWorkspace, Source
from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import atomic_write, make_folder, write_text

_ENDINGS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl"}


def predict(
    ctx: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMG...", help="Images: files, folders, globs; - reads paths from stdin.", show_default=False
        ),
    ] = None,
    *,
    run: Annotated[
        str | None,
        typer.Option(
            help="Run: folder, name, stage or part of a name; @newest if not given.",
            autocompletion=complete.run,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    weights: flags.RunWeights = None,
    decision: Annotated[DecisionConfig, Take(without=("ap",))],
    run_workspace: Annotated[RunWorkspace, Take("runs_dir")],
    machine: Annotated[Machine, Take("device", "workers")],
    pixels: Annotated[
        Source,
        Take(
            "value_range",
            help={"value_range": "Darkest and brightest value of pixels with more than 8 bits, if the run has none."},
        ),
    ],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Output format; coco, fiftyone and label-studio are for annotation tools. If not given: by the "
            "ending of --out, else a table on a terminal, lines in a pipe.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write instead of stdout; complete when it appears.", rich_help_panel=flags.OUTPUT),
    ] = None,
    accept: AcceptConfig,
    sidecars: Annotated[
        bool,
        typer.Option(
            "--sidecars",
            help="Write IMG.labels.json next to each image, with the JSON that --json prints.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = False,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for copies of the images with their labels drawn on them.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = None,
    stdin_json: Annotated[
        bool,
        typer.Option(
            "--stdin-json",
            help='Keep running and answer JSON requests from stdin, one per line: {"path": FILE}, '
            '{"paths": [FILE, ...]} or {"image": BASE64}, each with any "id".',
            rich_help_panel=flags.OUTPUT,
        ),
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Add the probabilities of all labels to JSON.", rich_help_panel=flags.OUTPUT),
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON, one object per line: --format jsonl.", rich_help_panel=flags.OUTPUT),
    ] = False,
) -> None:
    """Predict the label sets of images."""
    moved = str(weights) if weights else None
    by = _By(scoped(ctx, run_workspace), run, machine, decision, moved, pixels.value_range, accept)
    check(accept, out)
    if stdin_json:
        if images or form or out or sidecars or annotate or accept.rest:
            raise typer.BadParameter(
                "requests name the images and answers go to stdout: leave out IMG, --format, --out, --rest, --sidecars "
                "and --annotate",
                param_hint="--stdin-json",
            )
        raise typer.Exit(_serve(by, everything))
    if not images:
        raise typer.BadParameter("name files, folders or globs, or - to read paths from stdin", param_hint="IMG...")
    if json and form not in (None, "jsonl"):
        raise typer.BadParameter(f"--json prints JSON, not {form}: leave out one of the two", param_hint="--format")
    piped = "-" in images
    form = "jsonl" if json else form
    code = _label(by, images, _Places(form, out, piped), sidecars, annotate, everything)
    if not piped and _is_terminal():
        named = (run,) if run else ()
        for_tools = (form or _form(out, piped)) not in ("lines", "table", "csv")
        print_next(
            ctx,
            "export",
            *named,
            values=passed_on(ctx, run_workspace),
            json=for_tools,
        )
    raise typer.Exit(code)


class _By(NamedTuple):
    """The arguments that define a labeller."""

    run_workspace: RunWorkspace
    run: str | None
    machine: Machine
    decision: DecisionConfig
    weights: str | None
    value_range: str | None
    accept: AcceptConfig


class _Places(NamedTuple):
    """Where label sets go: the format that the user names, --out, and whether paths come from a pipe."""

    named: Format | None
    out: Path | None
    piped: bool

    def form(self, path: Path | None) -> Format:
        """The format of a file, or of stdout."""
        return self.named or _form(path, self.piped)


def _label(
    by: _By,
    images: list[str],
    places: _Places,
    sidecars: bool,
    annotate: Path | None,
    everything: bool,
) -> ExitCode:
    """Label images, print the label sets and write the requested files.

    Returns:
        The exit code.
    """
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.labelling.copies import Copies
    from labeldep_cli.labelling.paths import expand
    from labeldep_cli.labelling.prediction import record
    from labeldep_cli.pipelines.predict import predict as run_pipeline

    # Paths from a pipe are labelled as they arrive. All others are listed first, so that their number is known.
    paths = expand(_words(images), print_note) if "-" in images else list(expand(images, print_note))
    copies = Copies(annotate, paths if isinstance(paths, list) else None) if annotate else None
    reporter = Terminal(bars=places.out is not None or places.form(None) == "table" or not _is_terminal())
    done = skipped = 0
    with ExitStack() as stack:
        printer = _printer(stack, places, by.accept, everything)
        for result in run_pipeline(*by[:5], paths, reporter, by.value_range, copies, by.accept):
            if isinstance(result, Skipped):
                skipped += 1
                printer.skip(result)
                print_line(f"skipped: {result.path}: {result.reason}", err=True)
                continue
            done += 1
            if sidecars:
                write_text(Path(f"{result.path}.labels.json"), json_line(record(result, everything)) + "\n")
            printer.add(result)
        if not done:
            raise LabeldepError(
                f"none of the {skipped} images could be read" if skipped else "no images were named",
                "Name image files, folders with images, or - to read paths from stdin.",
            )
        printer.end()
    return ExitCode.of(bool(skipped))


def _printer(stack: ExitStack, places: _Places, accept: AcceptConfig, everything: bool) -> Form:
    """Open what prints the label sets, with its files."""

    def opened(path: Path | None) -> Form:
        folder = path.parent if path else Path.cwd()
        return open_form(places.form(path), stack.enter_context(_destination(path)), everything, folder)

    printer = opened(places.out)
    return printer if accept.accepts_all else Sorted(printer, opened(accept.rest) if accept.rest else None)


def _serve(by: _By, everything: bool) -> ExitCode:
    """Answer requests until stdin ends, and return the exit code."""
    from labeldep_cli.labelling.serve import complete
    from labeldep_cli.pipelines.serve import serve

    all_complete = True
    for answer in serve(*by[:5], _stdin(), everything, Terminal(), by.value_range, by.accept):
        print_json(answer)
        all_complete = all_complete and complete(answer)
    return ExitCode.of(not all_complete)


def _is_terminal() -> bool:
    """Whether what is printed goes to a terminal."""
    return sys.stdout.isatty()


def _form(out: Path | None, piped: bool) -> Format:
    """The default format. Paths from a pipe are answered as they arrive, which a table cannot do."""
    if out is not None:
        if out.suffix.lower() == ".json":
            raise typer.BadParameter(
                "several formats are written as .json: name one with --format coco, fiftyone or label-studio; lines of "
                "JSON end in .jsonl",
                param_hint="--out",
            )
        return _ENDINGS.get(out.suffix.lower(), "lines")
    return "table" if _is_terminal() and not piped else "lines"


@contextmanager
def _destination(out: Path | None) -> Iterator[TextIO]:
    """Open stdout, or a file that appears only when it is complete."""
    if out is None:
        yield sys.stdout
        return
    make_folder(out.parent)
    with (
        atomic_write(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield stream


def _stdin() -> BinaryIO:
    """Stdin as a binary stream.

    Raises:
        LabeldepError: stdin is closed.
    """
    if sys.stdin is None:
        raise LabeldepError(
            "stdin is closed, so nothing can be read from it", "Connect a pipe or a file: labeldep predict - < FILE"
        )
    return sys.stdin.buffer


def _words(images: list[str]) -> Iterator[str]:
    for word in images:
        if word == "-":
            yield from filter(str.strip, _lines())
        else:
            yield word


def _lines() -> Iterator[str]:
    """The lines of stdin, read without its buffer: a thread that waits for the buffer blocks the exit on Ctrl-C."""
    source = getattr(_stdin(), "raw", _stdin())
    rest = b""
    while block := source.read(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines)
    yield os.fsdecode(rest)
