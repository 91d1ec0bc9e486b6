"""`python -m benchmarks kills`: kill each command at seeded moments, run it again, and compare with an unbroken run.

Half of the moments are spread over the time that the unbroken command takes; the others lie just before one of its
changes to files: a file is opened to be written, renamed or removed, a folder made or removed. SIGKILL and SIGTERM go
to the command, as a scheduler sends them; SIGHUP and SIGINT to its process group, as a terminal does. What becomes of
the same command, run again:

- same: it ends with the output and the files of the unbroken one, and nothing more;
- other: with another output, or other files;
- leftovers: with files or folders that the unbroken one does not leave, in the folder or in TMPDIR;
- error: with another exit code;
- outlived: a process of the killed command, or of this one, still ran some seconds after it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.kills import reviewed
from benchmarks.kills.cases import CASES, Case, make
from benchmarks.kills.states import files_of, steady
from benchmarks.processes import Child, Ended, import_all, in_child
from benchmarks.show import Table, show

LIMIT = 240.0
"""Seconds after which a command is stopped."""

GRACE = 3.0
"""Seconds that processes of a command may live on after it."""

TORCHRUNS_OWN = "torchelastic_"
"""How the folders in TMPDIR begin that torchrun leaves, killed or not."""

OUTCOMES = ("same", "other", "leftovers", "error", "outlived")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

_PR_SET_CHILD_SUBREAPER = 36
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "sqlite3.connect"}


class Kill(NamedTuple):
    """When and how a command is killed.

    Attributes:
        number: the signal.
        seconds: after the start; None if `change` tells the moment.
        change: just before this change to files, counted from 1.
    """

    number: signal.Signals
    seconds: float | None
    change: int = 0

    def __str__(self) -> str:
        moment = f"change {self.change}" if self.seconds is None else f"{self.seconds:.2f} s"
        return f"{self.number.name} at {moment}"

    @property
    def group(self) -> bool:
        """Whether it goes to the whole process group."""
        return self.number in (signal.SIGHUP, signal.SIGINT)


class State(NamedTuple):
    """How a command ended, what it left, and the processes of it that lived on."""

    ended: Ended
    files: dict[str, bytes]
    alive: list[str]
    seconds: float
    changes: int


def command(
    kills: Annotated[int, typer.Option(min=1, help="Kills of each command.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the moments and signals.")] = 0,
    only: Annotated[str, typer.Option(help="Commands whose name contains one of these words, between commas.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Kill each command at seeded moments: counts of how the same command, run again, ends."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    names = [name for name in (*CASES, reviewed.NAME) if not words or any(word in name for word in words)]
    found = run(names, kills, seed)
    rows = [
        [name, *(str(one["counts"][outcome]) for outcome in OUTCOMES), _told(one["codes"])]
        for name, one in found["commands"].items()
    ]
    bad = [[name, what, str(count)] for name, one in found["commands"].items() for what, count in one["bad"].items()]
    tables = [Table(f"kills, seed {seed}", ("command", *OUTCOMES, "exit codes after TERM, HUP, INT"), rows)]
    show(found, [*tables, Table("what", ("command", "what", ""), bad, words=2)] if bad else tables, json)


def _told(codes: dict[str, int]) -> str:
    return ", ".join(f"{count} x {code}" for code, count in codes.items())


def run(names: list[str], kills: int, seed: int) -> dict[str, Any]:
    """Kill commands.

    Args:
        names: of the commands.
        kills: of each.
        seed: of moments and signals.

    Returns:
        `commands`, by name: `counts` by outcome, `codes`: how often each exit code after a signal that can be handled,
        and `bad`: how often each other thing was found.
    """
    import_all()
    if sys.platform == "linux":  # processes whose parent was killed become children of this one, and are seen
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place).resolve())
        commands = {
            name: bench.kill(CASES[name], kills, seed) if name in CASES else reviewed.kill(bench, kills, seed)
            for name in names
        }
    return {"benchmark": "kills", "seed": seed, "kills": kills, "commands": commands}


class Bench:
    """A workshop that each command starts from.

    Args:
        place: an empty folder.
    """

    def __init__(self, place: Path) -> None:
        self.sound, self.work, self.scratch = (place / name for name in ("sound", "work", "tmp"))
        self.work.mkdir()
        made = in_child(lambda: make(self.work), self.work, LIMIT)  # torch must not compute in a process that is forked
        if made.code:
            raise RuntimeError(f"the workshop cannot be made: {made.err.decode()}")
        shutil.copytree(self.work, self.sound)

    def restore(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.copytree(self.sound, self.work)
        self.scratch.mkdir()

    def kill(self, case: Case, kills: int, seed: int) -> dict[str, Any]:
        """Kill a command; as `run` returns it."""
        self.restore()
        whole = self.ended(case)
        if whole.ended.code not in (0, 3):
            raise RuntimeError(f"{case.name} ends with {whole.ended.code}: {whole.ended.err.decode()}")
        draws = np.random.default_rng([seed, *case.name.encode()])
        counts, codes, bad = Counter[str](), Counter[str](), Counter[str]()
        for number in range(kills):
            self.restore()
            kill = draw(draws, whole, case.changes and number % 2 == 1)
            killed = self.ended(case, kill)
            told = code_after(killed, kill, whole, case)
            if told is not None:
                codes[told] += 1
            outcome, what = outcome_of(killed, self.ended(case), whole)
            counts[outcome] += 1
            if what:
                bad[f"{kill}: {what}"] += 1
        return {"counts": {name: counts[name] for name in OUTCOMES}, "codes": dict(codes), "bad": dict(bad)}

    def ended(self, case: Case, kill: Kill | None = None) -> State:
        """Run a command to its end, or kill it."""
        seen = mmap.mmap(-1, 9)  # shared with the child: its changes to files, and whether it has begun

        def task() -> None:
            os.environ["TMPDIR"] = str(self.scratch)
            tempfile.tempdir = None
            _watch_changes(seen, kill)
            seen[8] = 1
            case.start(case.command.split())

        child = Child(task, self.work, apart=True)
        while not seen[8] and not child.ended():
            time.sleep(0.0005)
        begun = time.monotonic()
        if kill is not None and kill.seconds is not None:
            while time.monotonic() - begun < kill.seconds and not child.ended():
                time.sleep(0.002)
            if not child.ended():
                child.signal(kill.number, kill.group)
        ended = child.wait(LIMIT)
        seconds = time.monotonic() - begun
        alive = survivors()
        files = files_of(self.work) if kill is None else {}
        scratch = [path.name for path in self.scratch.iterdir() if not path.name.startswith(TORCHRUNS_OWN)]
        files |= {f"TMPDIR/{name}": b"" for name in scratch}
        return State(ended, files, alive, seconds, int.from_bytes(seen[:8], "little"))


def _watch_changes(seen: mmap.mmap, kill: Kill | None) -> None:
    """Count this process's changes to files, and send it its signal just before one of them."""
    pid = os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in _CHANGES) or os.getpid() != pid:
            return
        number = int.from_bytes(seen[:8], "little") + 1
        seen[:8] = number.to_bytes(8, "little")
        if kill is not None and number == kill.change:
            (os.killpg if kill.group else os.kill)(pid, kill.number)

    sys.addaudithook(hook)


def draw(draws: np.random.Generator, whole: State, at_change: bool) -> Kill:
    """A signal and a moment for a command that takes as long, and changes files as often, as the unbroken one."""
    number = SIGNALS[draws.integers(len(SIGNALS))]
    if at_change and whole.changes:
        return Kill(number, None, int(draws.integers(1, whole.changes + 1)))
    return Kill(number, float(draws.uniform(0, whole.seconds)))


def code_after(killed: State, kill: Kill, whole: State, case: Case) -> str | None:
    """The exit code after a signal that a command handles, in words; None after SIGKILL, or if it had ended before."""
    code = killed.ended.code
    if kill.number == signal.SIGKILL or code == whole.ended.code:
        return None
    if killed.ended.out and steady(killed.ended.out) == steady(whole.ended.out):
        return None  # all is printed; Python shuts down
    return f"{'torchrun: ' if case.by_launcher else ''}{code}"


def outcome_of(killed: State, again: State, whole: State) -> tuple[str, str]:
    """One of OUTCOMES; and in words what is not the same, or ""."""
    if again.ended.code != whole.ended.code:
        told = again.ended.err.decode(errors="replace").strip().splitlines()
        return "error", f"exit code {again.ended.code}: {told[-1] if told else ''}"
    if killed.alive or again.alive:
        return "outlived", "; ".join(killed.alive + again.alive)
    if lacking := whole.files.keys() - again.files.keys():
        return "other", f"lacks {', '.join(sorted(lacking)[:5])}"
    if changed := [name for name in sorted(whole.files) if whole.files[name] != again.files[name]]:
        return "other", f"other bytes: {', '.join(changed[:5])}"
    if steady(again.ended.out) != steady(whole.ended.out):
        return "other", "another output"
    if more := again.files.keys() - whole.files.keys():
        return "leftovers", ", ".join(sorted(more)[:5])
    return "same", ""


def survivors() -> list[str]:
    """The processes that still descend from this one after some seconds, which are then stopped."""
    deadline = time.monotonic() + GRACE
    while (living := _descendants()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in living:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while _descendants():
        time.sleep(0.01)
    return sorted(set(living.values()))


def _descendants() -> dict[int, str]:
    """Command lines of the living descendants of this process, by id; those that have ended are reaped."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    found: dict[int, str] = {}
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() != pid:
            with suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()[-60:]
    return found
