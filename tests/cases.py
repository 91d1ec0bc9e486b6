"""Label files as people have them: what `labeldep data` makes of each, and whether its remedy works when pasted.

python tests/cases.py [NAME ...]      # a line a case
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from typer.testing import CliRunner, Result

from labeldep_cli.cli import app

MAKER = Path(__file__).resolve().parents[2] / "shared" / "cases" / "make.py"

OF_IMAGES = {"pictures", "predict_folder", "float_tiff_pair"}
"""Cases that are about pixels, not about labels."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: "right": read, and the labels are what a person means; "wrong": read otherwise; "remedied": refused, and
            the named command reads it right; "misled": refused, and no named command reads it right; "refused":
            refused, where nothing can read it; "crashed".
        words: the counts that were read, or the message.
    """

    kind: str
    words: str


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cases", MAKER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cases"] = module
    sys.path.insert(0, str(MAKER.parent))
    spec.loader.exec_module(module)
    return module


def label_cases() -> list[str]:
    return [name for name in maker().ALL if name not in OF_IMAGES]


def run(words: list[str]) -> Result:
    return CliRunner().invoke(app, words)


def attempt(name: str, root: Path, meant: Mapping[str, int] | None = None, names: Sequence[str] = ()) -> Outcome:
    """Make a case in an empty folder, open it as a user would, and paste the remedy of a refusal.

    Args:
        name: of the case.
        root: the empty folder.
        meant: images a label, as a person means them; None for what the case says itself.
        names: what a person writes for NAME1, NAME2, ... in a command.
    """
    make = maker()
    make.ROOT = root
    where, expected, _ = make.make(name)
    expected = expected if meant is None else meant
    with chdir(root):
        first = run(["data", str(where), "--json"])
        if first.exit_code in (0, 3):
            return compared(counts_of(first), expected, "right", "wrong")
        if isinstance(first.exception, Exception) and not isinstance(first.exception, SystemExit):
            return Outcome("crashed", repr(first.exception))
        tried = [outcome for line in remedies(first) if (outcome := pasted(line, expected, names)) is not None]
        good = next((outcome for outcome in tried if outcome.kind == "remedied"), None)
        if good or not tried:
            return good or Outcome("refused", first.stderr)
        return Outcome("misled", first.stderr + "".join(outcome.words for outcome in tried))


def remedies(result: Result) -> list[str]:
    """The commands in the message of a refusal."""
    return [line.strip() for line in result.stderr.splitlines() if line.strip().startswith("labeldep ")]


def pasted(
    line: str, expected: Mapping[str, int] | None, names: Sequence[str] = (), questions: int = 3
) -> Outcome | None:
    """Run a command of a remedy; after `import`, open what it wrote.

    Args:
        line: the command.
        expected: what a person means.
        names: what a person writes for NAME1, NAME2, ...
        questions: how often a refusal of the command is answered in turn, by its own remedies.
    """
    for number, name in reversed(list(enumerate(names, start=1))):
        line = line.replace(f"NAME{number}", shlex.quote(name))
    words = shlex.split(line)[1:]
    result = run([*words, "--json", *(["--fresh"] if words[0] == "import" else [])])  # in place of another answer's
    if result.exit_code not in (0, 3):
        further = [pasted(again, expected, names, questions - 1) for again in remedies(result) if questions > 1]
        good = next((outcome for outcome in further if outcome and outcome.kind == "remedied"), None)
        return good or Outcome("misled", f"\n$ {line}\n{result.stderr}{result.exception!r}")
    if words[0] == "import":
        result = run(["data", words[words.index("--out") + 1], "--json"])
        if result.exit_code not in (0, 3):
            return Outcome("misled", f"\n$ {line}\n$ labeldep data\n{result.stderr}{result.exception!r}")
    elif words[0] != "data":
        return None
    return compared(counts_of(result), expected, "remedied", "misled")


def counts_of(result: Result) -> dict[str, int]:
    splits = json.loads(result.stdout)["splits"]
    names = splits["train"]["label_counts"]
    return {name: sum(split["label_counts"][name] for split in splits.values()) for name in names}


def compared(counts: Mapping[str, int], expected: Mapping[str, int] | None, good: str, bad: str) -> Outcome:
    """Labels on no image do not count: a list of names cannot tell them from names that do not exist."""
    found = {name: count for name, count in counts.items() if count}
    meant = found if expected is None else {str(name): count for name, count in expected.items() if count}
    shown = {name[:20]: count for name, count in list(found.items())[:8]}
    return Outcome(good if found == meant else bad, str(shown))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for case in sys.argv[1:] or label_cases():
        with tempfile.TemporaryDirectory() as folder:
            outcome = attempt(case, Path(folder))
        print(f"{outcome.kind:9} {case:32} {' '.join(outcome.words.split())[:600]}", flush=True)
