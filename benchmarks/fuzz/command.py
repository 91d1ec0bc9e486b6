"""`python -m benchmarks fuzz`: count what becomes of seeded mutants of each file.

Each mutant is read by a command in a process of its own, which has a bound on its time. It ends

- clean: with an error that labeldep tells, or with the unharmed file's output beside a note that is new;
- right: with the unharmed file's output, or another one where the command's task is to show what the file says;
- wrong: with another output, and not a word;
- traceback, hang, greedy (it holds more than 2 GB) or killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.fuzz.formats import FORMATS, Format
from benchmarks.fuzz.workshop import make_all
from benchmarks.processes import CRASHED, Ended, import_all, in_child, run_command
from benchmarks.show import Table, show

LIMIT = 20.0
"""Seconds after which a command counts as hanging."""

MEMORY = 2e9
"""Bytes above which a command counts as greedy. The imports that all commands share are among them."""

OUTCOMES = ("clean", "right", "wrong", "traceback", "hang", "greedy", "killed")


def command(
    mutants: Annotated[int, typer.Option(min=1, help="Mutants of each file; a tenth where the command is slow.")] = 100,
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
    rows = [
        [
            name,
            *(str(one["counts"][outcome]) for outcome in OUTCOMES),
            f"{one['seconds']:.1f}",
            f"{one['gigabytes']:.2f}",
        ]
        for name, one in found["files"].items()
    ]
    bad = [[name, where, str(count)] for name, one in found["files"].items() for where, count in one["bad"].items()]
    tables = [Table(f"mutants, seed {seed}", ("file -> command", *OUTCOMES, "slowest, s", "most, GB"), rows)]
    show(found, [*tables, Table("where", ("file -> command", "what", ""), bad, words=2)] if bad else tables, json)


def run(forms: list[Format], mutants: int, seconds: float, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Read mutants of each file.

    Args:
        forms: the files.
        mutants: mutants of each; a tenth of them where the command is slow.
        seconds: time for each; 0 for no limit.
        seed: of the mutants.
        keep: gets the content of each mutant that ends in a traceback, hangs or is wrong; None to keep none.

    Returns:
        `files`, by name: `counts` by outcome; `bad`: how often each traceback's last line, hang or wrong output;
            the most `seconds` and `gigabytes` of a command.
    """
    import_all()
    with tempfile.TemporaryDirectory() as place:
        sound = Path(place, "sound")
        work = Path(place, "work")
        work.mkdir()
        made = in_child(lambda: make_all(work), work, 600)  # torch must not compute in this process, which is forked
        if made.code:
            raise RuntimeError(f"the unharmed files cannot be made: {made.err.decode()}")
        shutil.copytree(work, sound)
        shutil.rmtree(work)
        work.mkdir()
        files = {form.name: _of_format(form, mutants, seconds, seed, sound, work, keep) for form in forms}
    return {"benchmark": "fuzz", "seed": seed, "files": files}


def _of_format(
    form: Format, mutants: int, seconds: float, seed: int, sound: Path, work: Path, keep: Path | None
) -> dict[str, Any]:
    counts, bad = Counter[str](), Counter[str]()
    slowest = most = 0.0
    files = _Files(sound, work)
    files.restore()
    file = sorted(work.glob(form.file))[-1]
    content = file.read_bytes()
    unharmed = _ended(form, file, work)
    if unharmed.code not in (0, 3):
        raise RuntimeError(f"{form.name}: the unharmed file ends with {unharmed.code}: {unharmed.err.decode()}")
    draws = np.random.default_rng([seed, *form.name.encode()])
    begun = time.monotonic()
    for number in range(max(mutants // 10, 1) if form.slow else mutants):
        if seconds and time.monotonic() - begun > seconds:
            break
        files.restore()
        mutant = form.mutate(content, draws)
        file.write_bytes(mutant)
        started = time.monotonic()
        ended = _ended(form, file, work)
        slowest, most = max(slowest, time.monotonic() - started), max(most, ended.memory / 1e9)
        outcome, what = outcome_of(ended, unharmed, form.shows)
        counts[outcome] += 1
        if what:
            bad[what] += 1
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{form.file.replace('/', '-').replace('*', '')}-{seed}-{number}").write_bytes(mutant)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
    print(f"{form.name}: {told}; {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    numbers = {"seconds": slowest, "gigabytes": most}
    return {"counts": {name: counts[name] for name in OUTCOMES}, "bad": dict(bad.most_common()), **numbers}


class _Files:
    """The workshop: only what a command has changed in it is made again.

    Args:
        sound: the folder as it was made.
        work: the folder that commands change.
    """

    def __init__(self, sound: Path, work: Path) -> None:
        self._sound = sound
        self._work = work
        self._as_copied: dict[str, tuple[int, int, int]] = {}

    def restore(self) -> None:
        """Bring the folder into the state of the sound one."""
        found = self._states()
        for name in found.keys() - self._as_copied.keys():
            (self._work / name).unlink()
        for path in sorted((path for path in self._work.glob("**/") if path != self._work), reverse=True):
            if not (self._sound / path.relative_to(self._work)).is_dir():
                path.rmdir()
        for path in self._sound.glob("**/*"):
            name = str(path.relative_to(self._sound))
            if path.is_dir():
                (self._work / name).mkdir(exist_ok=True)
            elif name not in found or found[name] != self._as_copied.get(name):
                shutil.copy2(path, self._work / name)
                self._as_copied[name] = _state(os.lstat(self._work / name))

    def _states(self) -> dict[str, tuple[int, int, int]]:
        names = (path for path in self._work.glob("**/*") if not path.is_dir() or path.is_symlink())
        return {str(path.relative_to(self._work)): _state(os.lstat(path)) for path in names}


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def outcome_of(ended: Ended, unharmed: Ended, shows: bool) -> tuple[str, str]:
    """One of OUTCOMES; and in words what is bad, or ""."""
    if ended.code is None:
        return "hang", f"more than {LIMIT:.0f} s"
    if ended.code < 0:
        return "killed", signal.Signals(-ended.code).name
    if ended.code == CRASHED:
        return "traceback", ended.err.decode(errors="replace").strip().splitlines()[-1]
    if ended.memory > MEMORY:
        return "greedy", f"{ended.memory / 1e9:.1f} GB"
    if ended.code not in (0, 3):
        return "clean", ""
    if ended.out == unharmed.out or shows:
        return "right", ""
    return ("wrong", "another output without a word") if ended.err == unharmed.err else ("clean", "")


def _ended(form: Format, file: Path, folder: Path) -> Ended:
    """Run a form's command in the folder, in a process of its own."""

    def labeldep() -> None:
        if form.stdin:
            os.dup2(os.open(file, os.O_RDONLY), 0)
        run_command(form.command.split())

    return in_child(labeldep, folder, LIMIT)
