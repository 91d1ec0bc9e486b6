"""`labeldep review`."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import print_next, trained_before
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_note
from labeldep_cli.config import READING, ReviewConfig, Source, Workspace, settings_of
from labeldep_cli.files import counted

if TYPE_CHECKING:
    from labeldep_cli.pipelines.review import Review
    from labeldep_cli.review.server import ReviewServer
    from labeldep_cli.review.session import Session
    from labeldep_cli.review.taking import Taken

SHOWN = 10
"""Number of images that are named."""

_READING = tuple(name for name in READING if name != "corrections")
_WORDS = {"accept": "accepted", "reject": "right as written", "edit": "edited", "skip": "skipped", "undo": "undone"}


def review(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="DATASET|AUDIT", help="Data set as for --dataset, or folder of an audit.")
    ],
    *,
    config: ReviewConfig,
    draw: Annotated[Source, Take(*_READING)],
    workspace: Annotated[Workspace, Take("data_dir", "runs_dir")],
    json: flags.Json = False,
) -> None:
    """Decide on the labels of images on a local page; start with what an audit has found."""
    from labeldep_cli.pipelines.review import closing_json, is_audit, open_review

    if is_audit(what):
        _refuse_settings(ctx, what)
    review = open_review(what, draw, workspace.data_dir, config, Terminal())
    if config.take is not None:
        taken = review.take(config.take)
        print_json(taken.to_json()) if json else _print_taken(taken, review)
    else:
        server = review.serve(config.port)
        _serve(server, review, config.browser, quiet=json)
        print_json(closing_json(review, server.session)) if json else _print_end(server.session)
    _print_next(ctx, review, workspace, json)


def _refuse_settings(ctx: typer.Context, what: str) -> None:
    for name in (*_READING, "data_dir", "audit"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"{what} is an audit, which has its own data set and settings: leave it out",
                param_hint=f"--{name.replace('_', '-')}",
            )


def _serve(server: ReviewServer, review: Review, browser: bool, quiet: bool) -> None:
    """Serve the page until Ctrl-C."""
    session = server.session
    what = "images" if review.cards is None else "images with suspects"
    gone = f"; {session.n_gone} more are gone" if session.n_gone else ""
    tell = print_note if quiet else print_line
    with server, suppress(KeyboardInterrupt):
        tell(f"{review.dataset.name}: {len(session.cards):,} {what}, {session.n_decided:,} of them decided{gone}")
        tell(f"the page: {server.url}")
        print_note(f"decisions are kept in {review.place.file}; end with Ctrl-C")
        if browser and _has_browser():
            webbrowser.open(server.url)
        server.serve_forever(poll_interval=0.2)


def _has_browser() -> bool:
    """Whether a browser with a window of its own can open; one within the terminal would hide the command."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY"))


def _print_end(session: Session) -> None:
    made = ", ".join(f"{session.made[kind]} {word}" for kind, word in _WORDS.items() if session.made[kind])
    total = counted(session.made.total(), "decision")
    print_line(
        f"{total}{f': {made}' if made else ''}; {session.n_decided:,} of {len(session.cards):,} images are decided"
    )


def _print_taken(taken: Taken, review: Review) -> None:
    print_line(f"{counted(len(taken.appended), 'image')} decided by the file: written into {review.place.file}")
    if taken.known:
        print_line(f"{counted(taken.known, 'image')} decided in the same way before")
    for conflict in taken.conflicts[:SHOWN]:
        label = f"{conflict.label}: " if conflict.label else ""
        print_line(f"conflict, left out: {conflict.path}: {label}{conflict.reason}")
    if len(taken.conflicts) > SHOWN:
        print_line(f"conflict, left out: {len(taken.conflicts) - SHOWN} more (--json lists all)")
    if taken.gone:
        print_line(f"{counted(len(taken.gone), 'image')} that the data set does not have, such as {taken.gone[0]}")
    if taken.elsewhere:
        print_line(f"{counted(taken.elsewhere, 'decision')} on other tables")


def _print_next(ctx: typer.Context, review: Review, workspace: Workspace, json: bool) -> None:
    source = review.source
    values = {name: getattr(source, name) for name in settings_of(Source)}
    fresh = trained_before(source, workspace.runs_dir)
    values |= vars(replace(workspace, data_dir=review.data_dir)) | {"fresh": fresh}
    print_next(ctx, "pretrain", values=values, json=json)
