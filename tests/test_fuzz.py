"""`python -m benchmarks fuzz`: mutants follow from the seed, outcomes are told apart, a short run finds nothing bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import mutants
from benchmarks.fuzz.command import OUTCOMES, _Files, outcome_of
from benchmarks.fuzz.formats import FORMATS
from benchmarks.processes import CRASHED, Ended, in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
UNHARMED = Ended(0, b"{}\n", b"a note\n")


@pytest.mark.parametrize(
    ("ended", "shows", "outcome"),
    [
        (UNHARMED, False, "right"),
        (Ended(1, b"", b"error: no\n"), False, "clean"),
        (Ended(0, b"[]\n", b"a note\nleft out: x\n"), False, "clean"),
        (Ended(0, b"[]\n", b"a note\n"), False, "wrong"),
        (Ended(0, b"[]\n", b"a note\n"), True, "right"),
        (Ended(CRASHED, b"", b"Traceback\nfiles.py:1 KeyError\n"), False, "traceback"),
        (Ended(-9, b"", b""), False, "killed"),
        (Ended(None, b"", b""), False, "hang"),
        (Ended(1, b"", b"error: no\n", 3_000_000_000), False, "greedy"),
    ],
)
def test_how_a_command_ended(ended: Ended, shows: bool, outcome: str) -> None:
    found, what = outcome_of(ended, UNHARMED, shows)
    assert found == outcome
    assert bool(what) == (outcome in OUTCOMES[2:])


def test_a_process_of_its_own(tmp_path: Path) -> None:
    def crash() -> None:
        raise KeyError("x")

    def speak() -> None:
        print(Path.cwd().name)
        raise SystemExit(3)

    assert in_child(crash, tmp_path, 20).code == CRASHED
    assert in_child(speak, tmp_path, 20)[:2] == (3, tmp_path.name.encode() + b"\n")
    assert in_child(lambda: __import__("time").sleep(60), tmp_path, 0.2).code is None


@pytest.mark.parametrize(
    "mutate", [mutants.changed_bytes, mutants.changed_text, mutants.changed_json, mutants.changed_lines]
)
def test_mutants_follow_from_the_seed(mutate: mutants.Mutator) -> None:
    content = b'{"a": [1, {"b": null}], "c": "d"}\n'
    found = [[mutate(content, draws) for _ in range(50)] for draws in map(np.random.default_rng, (0, 0, 1))]
    assert found[0] == found[1] != found[2]
    assert sum(one != content for one in found[0]) > 40


def test_a_workshop_is_restored_whatever_a_command_did(tmp_path: Path) -> None:
    sound, work = tmp_path / "sound", tmp_path / "work"
    (sound / "a" / "b").mkdir(parents=True)
    (sound / "a" / "b" / "c.txt").write_text("c")
    (sound / "d.txt").write_text("d")
    work.mkdir()
    files = _Files(sound, work)
    files.restore()
    kept = (work / "d.txt").stat().st_ino
    (work / "a" / "b" / "c.txt").write_text("C")
    (work / "new" / "folder").mkdir(parents=True)
    (work / "new" / "folder" / "file").write_text("x")
    (work / "link").symlink_to("d.txt")
    files.restore()
    found = {str(p.relative_to(work)): p.read_text() if p.is_file() else "" for p in work.glob("**/*")}
    assert found == {"a": "", "a/b": "", "a/b/c.txt": "c", "d.txt": "d"}
    assert (work / "d.txt").stat().st_ino == kept, "what was left alone is not copied"


def test_a_short_run_finds_nothing_bad() -> None:
    line = [sys.executable, "-m", "benchmarks", "fuzz", "--mutants", "2", "--seed", "2", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    expected = {form.name: 1 if form.slow else 2 for form in FORMATS}
    assert {name: sum(one["counts"].values()) for name, one in files.items()} == expected
    assert {name: one["bad"] for name, one in files.items() if one["bad"]} == {}
