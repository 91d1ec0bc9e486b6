"""Accepted label sets and the rest, in two places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from labeldep_cli.cli.formats import Form
from labeldep_cli.cli.show import LISTED, print_line, print_note
from labeldep_cli.config import AcceptConfig

if TYPE_CHECKING:
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.labelling.prediction import Prediction


def check(accept: AcceptConfig, out: Path | None) -> None:
    """Refuse flags of acceptance that do not go together."""
    if accept.min_confidence is not None and accept.auto_accept is not None:
        raise typer.BadParameter("it chooses the confidence: leave out --min-confidence", param_hint="--auto-accept")
    if accept.rest is None:
        return
    if accept.accepts_all:
        raise typer.BadParameter(
            "without a limit there is no rest: add --min-confidence P or --auto-accept PRECISION", param_hint="--rest"
        )
    if out is not None and out.resolve() == accept.rest.resolve():
        raise typer.BadParameter("it is the file of --out: name another one", param_hint="--rest")


class Sorted:
    """Prints the accepted sets in one place and the others in another, or names their images on stderr.

    Args:
        accepted: prints the accepted sets, and the images that were skipped.
        rest: prints the other sets; None to name their images.
    """

    def __init__(self, accepted: Form, rest: Form | None) -> None:
        self._accepted, self._rest = accepted, rest
        self._n_accepted = self._n_rest = 0
        self._named: list[str] = []

    def add(self, prediction: Prediction) -> None:
        """Print a label set in its place."""
        if prediction.accepted:
            self._n_accepted += 1
            self._accepted.add(prediction)
            return
        self._n_rest += 1
        if self._rest is not None:
            self._rest.add(prediction)
        elif len(self._named) < LISTED:
            self._named.append(prediction.path)

    def skip(self, skipped: Skipped) -> None:
        """Print that an image was skipped."""
        self._accepted.skip(skipped)

    def end(self) -> None:
        """Print what remains, and on stderr how many sets were accepted."""
        self._accepted.end()
        if self._rest is not None:
            self._rest.end()
        n = self._n_accepted + self._n_rest
        print_note(f"accepted: {self._n_accepted} of {n} images ({100 * self._n_accepted / n:.1f} %)")
        if self._named:
            more = self._n_rest - len(self._named)
            others = f", and {more} more (--rest FILE takes all)" if more else ""
            print_line(f"not accepted: {self._n_rest}: {', '.join(self._named)}{others}", err=True)
