"""`labeldep init`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from labeldep_cli.cli import complete, flags, project_file
from labeldep_cli.cli.next_command import say_next
from labeldep_cli.cli.show import print_error, print_json, tell
from labeldep_cli.config import DEFAULT_WEIGHTS, Workspace
from labeldep_cli.errors import LabeldepError

if TYPE_CHECKING:
    from labeldep_cli.pipelines.init import BackboneOffer, DatasetOffer

T = TypeVar("T")


def init(
    ctx: typer.Context,
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="The data set, without being asked for it.",
            autocompletion=complete.dataset,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The backbone, without being asked for it.",
            autocompletion=complete.backbone,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The backbone's weights, without being asked.", rich_help_panel=flags.WHAT)
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            help="The share of train held out where there is no val split, without being asked.",
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    workspace: Workspace,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take what is offered, without asking.", rich_help_panel=flags.HOW)
    ] = False,
    fresh: flags.Fresh = False,
    json: flags.Json = False,
) -> None:
    """Write labeldep.toml, the data set and backbone that all commands here have in common, by asking for them."""
    from labeldep_cli.pipelines.init import write_project

    file = _target(ctx)
    if file.exists() and not fresh:
        raise LabeldepError(
            f"{file} is there already", "Change it by hand, or write it anew: the same command with --fresh"
        )
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
        tell(f"--val-fraction left out: {offer.name} has a val split of its own")
    for name in ("data_dir", "runs_dir", "features_dir"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            settings[name.replace("_", "-")] = getattr(workspace, name)
    write_project(file, settings)
    if json:
        print_json({"file": str(file), "settings": {name: _plain(value) for name, value in settings.items()}})
    else:
        typer.echo(f"written: {file}")
    say_next(ctx, "pretrain" if offer.dataset.has_features else "extract", json=json)


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
    """The file to write: the one that --project names, else the one in the working directory."""
    named: Path | None = ctx.find_root().params.get("project")
    return project_file.locate(named) or Path(project_file.NAME)


@dataclass(frozen=True)
class _Asker:
    """Asks on the terminal, or takes what is offered."""

    yes: bool

    def ask(self, flag: str, question: str, offered: object, read: Callable[[str], T]) -> T:
        """The answer to a question.

        Args:
            flag: that answers it beforehand.
            question: in words.
            offered: what an empty answer means.
            read: makes a value of the answer; where it refuses, the question comes again.

        Raises:
            LabeldepError: nobody is there to answer; or what is offered is refused.
        """
        if self.yes:
            return read(str(offered))
        if not sys.stdin.isatty():
            raise LabeldepError(
                f"labeldep init asks for {flag}, and stdin is no terminal",
                "Take what it offers: labeldep init --yes\n"
                "Or say it beforehand: --dataset, --backbone, --weights, --val-fraction",
            )
        while True:
            try:
                return read(str(typer.prompt(question, default=str(offered), err=True)).strip())
            except LabeldepError as error:
                print_error(error)

    def choose(self, flag: str, question: str, offers: Sequence[object], read: Callable[[str], T]) -> T:
        """The same with a numbered list to choose from; the first is offered."""
        if not self.yes:
            for number, one in enumerate(offers, start=1):
                tell(f"  {number}  {one}")
        return self.ask(flag, f"{question} (a number, or another)", 1, read)


def _picked(answer: str, offers: Sequence[T]) -> T | None:
    """The offer that a number names."""
    return offers[int(answer) - 1] if answer.isdecimal() and 1 <= int(answer) <= len(offers) else None


def _dataset(asker: _Asker, named: str | None, workspace: Workspace) -> DatasetOffer:
    from labeldep_cli.pipelines.init import DatasetOffer, NamedOffer, dataset_offers, open_dataset

    offers: Sequence[DatasetOffer | NamedOffer] = [] if named is not None else dataset_offers(workspace.data_dir)

    def read(answer: str) -> DatasetOffer:
        one = _picked(answer, offers)
        return one if isinstance(one, DatasetOffer) else open_dataset(one.name if one else answer, workspace.data_dir)

    found = read(named) if named is not None else asker.choose("--dataset", "data set", offers, read)
    tell(str(found))
    return found


def _backbone(
    asker: _Asker, offer: DatasetOffer, named: str | None, weights: str | None, workspace: Workspace
) -> dict[str, object]:
    """Backbone and weights, as the file has them; weights that are the default need no line."""
    from labeldep_cli.models.backbones import find_backbone
    from labeldep_cli.models.weights import locate_weights
    from labeldep_cli.pipelines.init import BackboneOffer, backbone_offers

    offers = backbone_offers(offer, workspace)

    def read(answer: str) -> BackboneOffer:
        alike = next((one for one in offers if one.name == answer), None)
        return _picked(answer, offers) or alike or BackboneOffer(find_backbone(answer).name, "", "named")

    found = read(named) if named is not None else asker.choose("--backbone", "backbone", offers, read)

    def read_weights(answer: str) -> str:
        locate_weights(find_backbone(found.name), answer)
        return answer

    spec = found.weights
    if weights is not None:
        spec = read_weights(weights)
    elif not spec:
        spec = asker.ask("--weights", "weights (default, none, or a path)", DEFAULT_WEIGHTS, read_weights)
    return {"backbone": found.name, **({} if spec == DEFAULT_WEIGHTS else {"weights": spec})}


def _val_fraction(asker: _Asker, offer: DatasetOffer, said: float | None) -> float:
    def read(answer: str) -> float:
        try:
            share = float(answer)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 0.9:
            raise LabeldepError(f"{answer!r} is no share between 0 and 0.9", "0.2 holds a fifth of train out.")
        return share

    if said is not None:
        return said
    return asker.ask("--val-fraction", "share of train to hold out for val, which it lacks", offer.val_fraction, read)
