"""What all that turns a network into a graph needs: the packages, silence, and an error that helps."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec

import torch

from labeldep_cli.errors import LabeldepError


def require_onnx(flag: str) -> None:
    """Refuse a flag whose packages are not installed.

    Raises:
        LabeldepError: names the flag and the packages.
    """
    missing = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise LabeldepError(
            f"{flag} needs packages that are not installed: {', '.join(missing)}",
            "Run: pip install 'labeldep[onnx]'",
        )


def impossible(task: str, error: Exception, remedy: str) -> LabeldepError:
    """The error for a network that torch cannot turn into a graph."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return LabeldepError(f"torch {torch.__version__} cannot {task}: {first_line}", remedy)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' messages on stdout, which is for results, and on stderr."""
    before = logging.root.manager.disable
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
