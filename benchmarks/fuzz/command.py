"""`python -m benchmarks fuzz`: count what becomes of seeded mutants of each file.

Each mutant is read by a command in a process of its own, which has a bound on its time. It ends

- clean: with an error that labeldep tells, or with the unharmed file's output beside a note that is new;
- right: with the unharmed file's output, or another one where the command's task is to show what the file says;
- wrong: with another output, and not a word;
- traceback, hang or killed.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer

import labeldep_cli
from benchmarks.fuzz.formats import FORMATS, Format, command_of, make
from benchmarks.show import Table, show

LIMIT = 20.0
"""Seconds after which a command counts as hanging."""

OUTCOMES = ("clean", "right", "wrong", "traceback", "hang", "killed")
_CRASHED = 99


class Ended(NamedTuple):
    """How a command ended: its exit code, None if it was stopped; and what it printed."""

    code: int | None
    out: bytes
    err: bytes


def command(
    mutants: Annotated[int, typer.Option(min=1, help="Mutants of each file.")] = 100,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each file; 0: no limit.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the mutants.")] = 0,
    only: Annotated[str, typer.Option(help="Files whose name contains one of these words, between commas.")] = "",
    keep: Annotated[Path | None, typer.Option(help="Folder for the mutants that end badly.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What becomes of commands that are given changed files (seeded mutants): counts by file."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    forms = [form for form in FORMATS if not words or any(word in form.name for word in words)]
    found = run(forms, mutants, seconds, seed, keep)
    rows = [[name, *(str(one["counts"][outcome]) for outcome in OUTCOMES)] for name, one in found["files"].items()]
    bad = [[name, where, str(count)] for name, one in found["files"].items() for where, count in one["bad"].items()]
    tables = [Table(f"mutants, seed {seed}", ("file -> command", *OUTCOMES), rows)]
    show(found, [*tables, Table("where", ("file -> command", "what", ""), bad, words=2)] if bad else tables, json)


def run(forms: list[Format], mutants: int, seconds: float, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Read mutants of each file.

    Args:
        forms: the files.
        mutants: mutants of each.
        seconds: time for each; 0 for no limit.
        seed: of the mutants.
        keep: gets the content of each mutant that ends in a traceback, hangs or is wrong; None to keep none.

    Returns:
        `files`, by name: `counts` by outcome, and `bad`: how often each traceback's last line, hang or wrong output.
    """
    _import_all()
    with tempfile.TemporaryDirectory() as place:
        sound = Path(place, "sound")
        work = Path(place, "work")
        work.mkdir()
        made = _in_child(lambda: make(work), work, 600)  # torch must not compute in this process, which is forked
        if made.code:
            raise RuntimeError(f"the unharmed files cannot be made: {made.err.decode()}")
        shutil.copytree(work, sound)
        files = {form.name: _of_format(form, mutants, seconds, seed, sound, work, keep) for form in forms}
    return {"benchmark": "fuzz", "seed": seed, "files": files}


def _import_all() -> None:
    """Import what commands import when they run, so that each fork has it."""
    for module in pkgutil.walk_packages(labeldep_cli.__path__, "labeldep_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _of_format(
    form: Format, mutants: int, seconds: float, seed: int, sound: Path, work: Path, keep: Path | None
) -> dict[str, Any]:
    counts, bad = Counter[str](), Counter[str]()
    _restore(sound, work)
    file = sorted(work.glob(form.file))[-1]
    content, words = file.read_bytes(), command_of(form)
    unharmed = _ended(words, work)
    if unharmed.code not in (0, 3):
        raise RuntimeError(f"{form.name}: the unharmed file ends with {unharmed.code}: {unharmed.err.decode()}")
    draws = np.random.default_rng([seed, *form.name.encode()])
    begun = time.monotonic()
    for number in range(mutants):
        if seconds and time.monotonic() - begun > seconds:
            break
        _restore(sound, work)
        mutant = form.mutate(content, draws)
        file.write_bytes(mutant)
        outcome, what = outcome_of(_ended(words, work), unharmed, form.shows)
        counts[outcome] += 1
        if what:
            bad[what] += 1
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{form.file.replace('/', '-').replace('*', '')}-{seed}-{number}").write_bytes(mutant)
    return {"counts": {name: counts[name] for name in OUTCOMES}, "bad": dict(bad.most_common())}


def _restore(sound: Path, work: Path) -> None:
    shutil.rmtree(work)
    shutil.copytree(sound, work)


def outcome_of(ended: Ended, unharmed: Ended, shows: bool) -> tuple[str, str]:
    """One of OUTCOMES; and in words what is bad, or ""."""
    if ended.code is None:
        return "hang", f"more than {LIMIT:.0f} s"
    if ended.code < 0:
        return "killed", signal.Signals(-ended.code).name
    if ended.code == _CRASHED:
        return "traceback", ended.err.decode(errors="replace").strip().splitlines()[-1]
    if ended.code not in (0, 3):
        return "clean", ""
    if ended.out == unharmed.out or shows:
        return "right", ""
    return ("wrong", "another output without a word") if ended.err == unharmed.err else ("clean", "")


def _ended(words: list[str], folder: Path) -> Ended:
    """Run a command line in the folder, in a process of its own."""

    def labeldep() -> None:
        from labeldep_cli.cli import app

        app(words)

    return _in_child(labeldep, folder, LIMIT)


def _in_child(task: Callable[[], None], folder: Path, limit: float) -> Ended:
    """Run a task in a fork, which has imported all already, and wait for it at most `limit` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _be_child(task, folder, out.fileno(), err.fileno())
        deadline = time.monotonic() + limit
        status = None
        while status is None and time.monotonic() < deadline:
            done, found = os.waitpid(child, os.WNOHANG)
            status = found if done else None
            time.sleep(0.005)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        return Ended(None if status is None else os.waitstatus_to_exitcode(status), *texts)


def _be_child(task: Callable[[], None], folder: Path, out: int, err: int) -> None:
    code = 0
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    try:
        os.chdir(folder)
        task()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        traceback.print_exc()
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if "labeldep_cli" in frame.filename][-1:]
        where = "".join(f"{frame.filename.rpartition('labeldep_cli/')[2]}:{frame.lineno}" for frame in last)
        sys.stderr.write(f"{where} {type(error).__name__}\n")
        code = _CRASHED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
