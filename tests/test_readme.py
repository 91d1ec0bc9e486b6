"""The README and the pages hold what they promise: commands, flags and links exist, the example of a user's CI runs."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox import make_table

from labeldep_cli.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*ROOT.glob("*.md"), ROOT / "data" / "README.md"]
LINKED += [page for folder in ("docs", "benchmarks", "tests") for page in (ROOT / folder).rglob("*.md")]
"""Every page, also those that tell flags of other programs."""

ELSEWHERE = {
    "audit": {"--kind", "--noise", "--rare", "--weak"},  # of python -m benchmarks audit
    "api": {"--model", "--pretrained", "--size", "--seeds"},  # of the scripts in examples/
    "completion": {"--install-completion", "--show-completion"},  # of labeldep itself
}
"""Flags that a page tells and no command has."""


def test_every_command_is_told() -> None:
    names = [command.name for command in app.registered_commands]
    assert len(names) == 21
    assert [name for name in names if f"labeldep {name}" not in README] == []
    assert [name for name in names if f"`labeldep {name}" not in COMMANDS] == [], "a row of the table"


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_the_page_of_all_flags_is_not_stale() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "write_cli_docs.py"))["page"]()
    found = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert found == written, "docs/cli.md is stale: run python scripts/write_cli_docs.py"


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"^[A-Z]+_[A-Z]+$", README, flags=re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_flag_that_is_told_exists(page: Path) -> None:
    import typer.main
    from torch.distributed.run import get_args_parser

    program = typer.main.get_command(app)
    known = {
        word
        for command in (program, *program.commands.values())
        for parameter in command.params
        for word in [*parameter.opts, *parameter.secondary_opts]
    }
    known |= {word for action in get_args_parser()._actions for word in action.option_strings}  # torchrun's
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text(encoding="utf-8")))
    assert told - known - {"--help"} - ELSEWHERE.get(page.stem, set()) == set()


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may be called, by the rule of public forges."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", text)
    ends = [(link, anchor, (page.parent / link) if link else page) for link, anchor in links]
    assert [link for link, _, end in ends if not end.exists()] == []
    assert [f"{link}#{anchor}" for link, anchor, end in ends if anchor and anchor not in anchors(end)] == []


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The script of docs/commands.md, beside a `labeldep` on the PATH and a small data set."""
    (block,) = re.findall(r"<!-- example-ci.*?-->\n```bash\n(.*?)```", COMMANDS, flags=re.DOTALL)
    (tmp_path / "ci.sh").write_text(block)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "labeldep").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m labeldep_cli "$@"\n')
    (commands / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    make_table(tmp_path / "pets", rows=30)
    return tmp_path


def run_example(folder: Path, gate: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DATASET": "pets/labels.csv",
        "BACKBONE": "squeezenet1_1",
        "WEIGHTS": "none",
        "GATE": gate,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        ["bash", "ci.sh", "--steps", "4", "--critic-layers", "2"],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_example_of_a_users_ci_runs_and_gates(example: Path) -> None:
    passed = run_example(example, gate="0")
    assert passed.returncode == 0, passed.stderr
    assert "CF1" in passed.stdout
    scores = json.loads((example / "eval.json").read_text())
    assert scores["decision"]["source"] == "tuned on val"
    assert len(json.loads((example / "extract.json").read_text())["files"]) == 3
    failed = run_example(example, gate="101")
    assert failed.returncode == 1, "no CF1 reaches 101"
    assert "is finished already" in failed.stderr, "the second time nothing is trained again"
