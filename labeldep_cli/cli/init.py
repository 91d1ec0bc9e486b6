"""`labeldep init`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from labeldep_cli.cli import complete, flags, project_file
from labeldep_cli.cli.next_command import print_next
from labeldep_cli.cli.show import print_error, print_json, print_line, print_note
from labeldep_cli.config import DEFAULT_WEIGHTS, Source, Workspace, settings_of
from labeldep_cli.errors import LabeldepError
from labeldep_cli.text import visible

if TYPE_CHECKING:
    from labeldep_cli.pipelines.init import BackboneOffer, DatasetOffer

T = TypeVar("T")

_SHARE = settings_of(Source)["val_fraction"]
"""What `--val-fraction` accepts."""


def init(
    ctx: typer.Context,
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set to use, instead of the question for it.",
            autocompletion=complete.dataset,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Backbone to use, instead of the question for it.",
            autocompletion=complete.backbone,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of the backbone to use, instead of the question for them.", rich_help_panel=flags.WHAT
        ),
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            min=_SHARE.min,
            max=_SHARE.max,
            help="Share of train held out for val, if there is no val split, instead of the question for it.",
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    workspace: Workspace,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Accept the suggested answers without asking.", rich_help_panel=flags.HOW),
    ] = False,
    fresh: flags.Fresh = False,
    json: flags.Json = False,
) -> None:
    """Ask for data set and backbone, and write them to labeldep.toml for all commands in this folder."""
    from labeldep_cli.pipelines.init import write_project

    file = _target(ctx)
    if file.exists() and not fresh:
        raise LabeldepError(f"{file} exists already", "Edit it by hand, or replace it: the same command with --fresh")
    asker = _Asker(yes)
    offer = _dataset(asker, dataset, workspace)
    settings: dict[str, object] = {"dataset": offer.name}
    if offer.dataset.has_features:
        _refuse_for_features(offer, {"--backbone": backbone, "--weights": weights})
    else:
        settings |= _backbone(asker, offer, backbone, weights, workspace)
    if offer.draws_val:
        settings["val-fraction"] = _val_fraction(asker, offer, val_fraction)
    elif val_fraction is not None:
        print_note(f"--val-fraction left out: {offer.name} has a val split of its own")
    for name in ("data_dir", "runs_dir", "features_dir"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            settings[name.replace("_", "-")] = getattr(workspace, name)
    write_project(file, settings)
    if json:
        print_json({"file": str(file), "settings": {name: _plain(value) for name, value in settings.items()}})
    else:
        print_line(f"written: {file}")
    print_next(ctx, "pretrain" if offer.dataset.has_features else "extract", json=json)


def _refuse_for_features(offer: DatasetOffer, flags: Mapping[str, str | None]) -> None:
    """Refuse flags that ready features do not take.

    Raises:
        LabeldepError: one of them is given.
    """
    for flag in (flag for flag, value in flags.items() if value is not None):
        raise LabeldepError(
            f"{offer.name} holds ready features: they take no {flag.removeprefix('--')}", f"Leave {flag} out."
        )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _target(ctx: typer.Context) -> Path:
    """The file to write: the one named by --project, else labeldep.toml in the working directory."""
    named: Path | None = ctx.find_root().params.get("project")
    return project_file.locate(named) or Path(project_file.NAME)


@dataclass(frozen=True)
class _Asker:
    """Asks questions on the terminal, or with `yes` accepts the suggested answers."""

    yes: bool

    def ask(self, flag: str, question: str, offered: object, read: Callable[[str], T]) -> T:
        """Ask a question and return the answer.

        Args:
            flag: the flag that can answer it in advance.
            question: its text.
            offered: the suggested answer, taken for an empty one.
            read: converts the answer's text to a value. If it raises LabeldepError, the question is asked again.

        Raises:
            LabeldepError: stdin is not a terminal; or with `yes`, the suggested answer is refused.
        """
        if self.yes:
            return read(str(offered))
        if not sys.stdin.isatty():
            raise LabeldepError(
                f"labeldep init asks for {flag}, but stdin is not a terminal",
                "Accept the suggested answers: labeldep init --yes\n"
                "Or answer with flags: --dataset, --backbone, --weights, --val-fraction",
            )
        while True:
            try:
                asked = f"{question} [{visible(str(offered))}]"
                return read(str(typer.prompt(asked, default=str(offered), show_default=False, err=True)).strip())
            except LabeldepError as error:
                print_error(error)

    def choose(self, flag: str, question: str, offers: Sequence[object], read: Callable[[str], T]) -> T:
        """Ask a question with a numbered list of answers; the first is suggested."""
        if not self.yes:
            for number, offer in enumerate(offers, start=1):
                print_note(f"  {number}  {offer}")
        return self.ask(flag, f"{question} (a number, or another)", 1, read)


def _picked(answer: str, offers: Sequence[T]) -> T | None:
    """The offer with the number that was answered, if the answer is such a number."""
    return offers[int(answer) - 1] if answer.isdecimal() and 1 <= int(answer) <= len(offers) else None


def _dataset(asker: _Asker, named: str | None, workspace: Workspace) -> DatasetOffer:
    from labeldep_cli.pipelines.init import DatasetOffer, NamedOffer, dataset_offers, open_dataset

    offers: Sequence[DatasetOffer | NamedOffer] = [] if named is not None else dataset_offers(workspace.data_dir)

    def read(answer: str) -> DatasetOffer:
        offer = _picked(answer, offers)
        if isinstance(offer, DatasetOffer):
            return offer
        return open_dataset(offer.name if offer else answer, workspace.data_dir)

    chosen = read(named) if named is not None else asker.choose("--dataset", "data set", offers, read)
    print_note(str(chosen))
    return chosen


def _backbone(
    asker: _Asker, offer: DatasetOffer, named: str | None, weights: str | None, workspace: Workspace
) -> dict[str, object]:
    """Backbone and weights as settings of the file; default weights are left out."""
    from labeldep_cli.models.backbones import find_backbone
    from labeldep_cli.models.weights import locate_weights
    from labeldep_cli.pipelines.init import BackboneOffer, backbone_offers

    offers = backbone_offers(offer, workspace)

    def read(answer: str) -> BackboneOffer:
        same_name = next((offer for offer in offers if offer.name == answer), None)
        return _picked(answer, offers) or same_name or BackboneOffer(find_backbone(answer, weights).name, "", "named")

    chosen = read(named) if named is not None else asker.choose("--backbone", "backbone", offers, read)

    def read_weights(answer: str) -> str:
        locate_weights(find_backbone(chosen.name, answer), answer)
        return answer

    spec = chosen.weights
    if weights is not None:
        spec = read_weights(weights)
    elif not spec:
        spec = asker.ask("--weights", "weights (default, none, or a path)", DEFAULT_WEIGHTS, read_weights)
    size, resize = chosen.frame
    settings = {"weights": spec, "image_size": size, "resize": resize}
    changed = {name: value for name, value in settings.items() if value not in (None, DEFAULT_WEIGHTS)}
    return {"backbone": chosen.name, **changed}


def _val_fraction(asker: _Asker, offer: DatasetOffer, requested: float | None) -> float:
    def read(answer: str) -> float:
        low, high = float(_SHARE.min or 0), float(_SHARE.max or 1)
        with suppress(ValueError):
            share = float(answer)
            if low <= share <= high:
                return share
        raise LabeldepError(
            f"{answer!r} is not a share between {low:g} and {high:g}", "0.2 holds out a fifth of train."
        )

    if requested is not None:
        return requested
    question = "there is no val split: share of train to hold out for it"
    return asker.ask("--val-fraction", question, offer.val_fraction, read)
