"""`--fresh` keeps a finished run under a dated name; a second seed has a name of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from sandbox import Sandbox, make_table

from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.claims import clear_folder
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, RESULT, ROWS, TENSORBOARD

SMALL = ("--backbone", "scenesnet", "--workers", 0, "--steps", 3)
CRITIC = ("--critic-layers", 1, "--critic-width", 8)


@pytest.fixture
def sandbox(tmp_path: Path, trained: Path) -> Sandbox:
    """A workspace with a pretrained and an adversarial run."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return Sandbox(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sandbox = Sandbox(tmp_path_factory.mktemp("trained"))
    rows = sandbox.folder / "genes.npz"
    make_features(rows)
    sandbox.json("adversarial", "--dataset", rows, "--steps", 3, *CRITIC)
    return sandbox.folder


def make_features(path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    np.savez(path, X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(["a", "b", "c"]))


def run_of(sandbox: Sandbox, stage: str) -> Path:
    """Its name has the digits of the place where it was trained first."""
    (found,) = (sandbox.folder / "runs").glob(f"genes-*-features-{stage}")
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def files_of(folder: Path) -> dict[str, bytes]:
    """All files, those of subfolders too."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def pretrain(sandbox: Sandbox, run: Path, *more: object, code: int = 0) -> str:
    line = ("pretrain", "--dataset", sandbox.folder / "genes.npz", "--steps", 3, "--out", run, *more)
    result = sandbox.run(*line)
    assert result.exit_code == code, result.stderr
    return result.stderr


def dated(run: Path) -> str:
    started = json.loads((run / CONFIG).read_text())["started"]
    return f"{run.name}-{started[:13]}{started[14:16]}"


def test_a_finished_run_is_kept_and_named(sandbox: Sandbox) -> None:
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    before, name = bytes_of(run), dated(run)
    assert re.search(r"mine-\d{4}-\d\d-\d\dT\d{4}$", name)
    said = pretrain(sandbox, run, "--lr", 0.5, "--fresh")
    kept = run.with_name(name)
    assert f"the finished run {run} is kept as {kept}" in said
    assert bytes_of(kept) == before
    assert bytes_of(run)[BEST] != before[BEST] and bytes_of(run).keys() == before.keys()
    (command,) = re.findall(r"when the new one is done: labeldep (.*)", said)
    assert command == f"compare {kept} {run}"
    assert sandbox.run(*command.split()).exit_code == 0
    assert {row["name"] for row in sandbox.json("runs")["runs"]} >= {"mine", name}


def test_a_name_that_is_taken_gets_a_number(sandbox: Sandbox) -> None:
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    name = dated(run)
    (run.parent / name).mkdir()
    (run.parent / f"{name}-2").write_text("a file of the user's own")
    assert f"is kept as {run.parent / name}-3" in pretrain(sandbox, run, "--fresh")
    assert not any((run.parent / name).iterdir())


def test_the_users_own_files_stay_where_they_are(sandbox: Sandbox) -> None:
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    (run / "notes.txt").write_text("mine")
    kept, said = run.with_name(dated(run)), pretrain(sandbox, run, "--fresh")
    assert "is kept as" in said
    assert (run / "notes.txt").read_text() == "mine" and not (kept / "notes.txt").exists()


@pytest.mark.parametrize("gone", [RESULT, BEST, CONFIG])
def test_an_unfinished_one_makes_way(sandbox: Sandbox, gone: str) -> None:
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    (run / gone).unlink()
    before = {path.name for path in run.parent.iterdir()}
    assert "is kept as" not in pretrain(sandbox, run, "--lr", 0.5, "--fresh")
    assert {path.name for path in run.parent.iterdir()} == before


def test_what_started_from_it_is_told_and_goes_on_from_the_kept_one(sandbox: Sandbox) -> None:
    rows = ("--dataset", sandbox.folder / "genes.npz", "--steps", 3)
    start, run = sandbox.folder / "runs" / "start", sandbox.folder / "runs" / "after"
    sandbox.json("pretrain", *rows, "--out", start)
    line = ("adversarial", *rows, *CRITIC, "--out", run)
    sandbox.json(*line, "--from", start)
    name = dated(start)
    said = sandbox.run("pretrain", *rows, "--lr", 0.5, "--out", start, "--fresh").stderr
    kept = start.with_name(name)
    assert f"after started from it: the commands that train them take --from {kept}" in said
    refused = sandbox.run(*line, "--from", start)
    assert refused.exit_code == 1
    assert f"It started from {kept}: --from {kept}" in refused.stderr
    assert "is finished already" in sandbox.run(*line, "--from", kept).stderr
    others = sandbox.run(*line, "--from", start, "--alpha", 5)
    assert others.exit_code == 1 and "It started from" not in others.stderr


def test_it_is_refused_before_anything_is_moved(sandbox: Sandbox) -> None:
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    before = bytes_of(run), {path.name for path in run.parent.iterdir()}
    pretrain(sandbox, run, "--fresh", "--loss", "warp", "--head", "cnn-rnn", code=1)
    assert (bytes_of(run), {path.name for path in run.parent.iterdir()}) == before


STEPS = 13
"""A folder is made, 4 files are copied, the folder is renamed, 3 moves (`best`, `last`, the events), 4 removals."""


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_kill_amid_the_moves_loses_nothing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The kill comes before this step. The same command does the rest: one folder is kept, with every file."""
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run, "--tensorboard")
    before, kept = files_of(run), run.with_name(dated(run))
    assert {ROWS, LAST} < before.keys() and any(name.startswith(TENSORBOARD) for name in before)
    others = {path.name for path in run.parent.iterdir()}
    done = 0

    def killed_before(function: Callable[..., object]) -> Callable[..., object]:
        def replacement(*given: object, **named: object) -> object:
            nonlocal done
            if done == step:
                raise KeyboardInterrupt
            done += 1
            return function(*given, **named)

        return replacement

    with monkeypatch.context() as patch:
        for where, name in ((shutil, "copyfile"), (shutil, "move"), (Path, "rename"), (Path, "mkdir")):
            patch.setattr(where, name, killed_before(getattr(where, name)))
        # The last steps are the removals of the copied files from the folder; others remove temporary files.
        unlink = Path.unlink
        patch.setattr(
            Path,
            "unlink",
            lambda path, *given, **named: (killed_before(unlink) if path.parent == run and path.exists() else unlink)(
                path, *given, **named
            ),
        )
        with pytest.raises(KeyboardInterrupt) if step < STEPS else nullcontext():
            clear_folder(run, True, SilentReporter())
    usable = {**files_of(run), **files_of(kept)} if kept.exists() else files_of(run)
    assert usable == before
    said = pretrain(sandbox, run, "--fresh")
    assert files_of(kept) == before
    assert {path.name for path in run.parent.iterdir()} == others | {kept.name}
    if step < STEPS - 1:
        assert f"the finished run {run} is kept as {kept}" in said
    assert sandbox.run("eval", kept).exit_code == 0


def test_a_new_run_after_a_kill_amid_the_moves_is_kept_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --fresh, the command resumes the run in the emptied folder. That is another one than the kept run."""
    run = sandbox.folder / "runs" / "mine"
    pretrain(sandbox, run)
    kept, before = run.with_name(dated(run)), files_of(run)
    move, moved = shutil.move, []

    def killed(*given: object) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(move(*given))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            clear_folder(run, True, SilentReporter())
    assert (kept / BEST).exists() and not (run / BEST).exists()
    pretrain(sandbox, run)
    resumed = files_of(run)
    assert f"is kept as {kept}-2" in pretrain(sandbox, run, "--fresh")
    assert files_of(kept.with_name(f"{kept.name}-2")) == resumed
    assert files_of(kept).items() <= before.items() and BEST in files_of(kept)


def test_audit_keeps_none_of_its_own(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    make_features(tmp_path / "genes.npz")
    line = ("audit", tmp_path / "genes.npz", "--folds", 2, "--repeats", 1, "--steps", 2, "--out", tmp_path / "audit")
    for _ in range(2):
        assert sandbox.run(*line, "--fresh").exit_code == 0
    folders = sorted(path.name for path in (tmp_path / "audit").rglob("*") if path.is_dir())
    assert folders == ["critic", "critic", "draw-1", "fold-1", "fold-2", "pretrain", "pretrain", "runs"]


class TestSeeds:
    def test_a_second_seed_has_a_name_of_its_own(self, tmp_path: Path) -> None:
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, 30)
        source = ("--dataset", sandbox.table, *SMALL)
        first = Path(sandbox.json("pretrain", *source)["run"])
        second = sandbox.run("adversarial", *source, *CRITIC, "--seed", 1)
        assert second.exit_code == 0
        assert f"no pretrained run {first}-seed1 yet: pretraining first" in second.stderr, "of the same seed"
        names = {path.name for path in (tmp_path / "runs").iterdir()}
        stem = first.name.removesuffix("-pretrain")
        assert names == {f"{stem}-{end}" for end in ("pretrain", "pretrain-seed1", "adversarial-seed1")}
        assert "is finished already" in sandbox.run("pretrain", *source, "--seed", 0).stderr
        started = json.loads((tmp_path / "runs" / f"{stem}-adversarial-seed1" / CONFIG).read_text())["start"]["run"]
        assert started == f"{first}-seed1"

    def test_full_mode_starts_from_the_head_of_the_same_seed(self, tmp_path: Path) -> None:
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, 30)
        source = ("--dataset", sandbox.table, *SMALL, "--seed", 2)
        head = sandbox.json("pretrain", *source)["run"]
        full = sandbox.json("pretrain", *source, "--full")["run"]
        assert full == head.replace("-pretrain-seed2", "-full-pretrain-seed2")
        assert json.loads((Path(full) / CONFIG).read_text())["start"]["run"] == head


class TestWords:
    """A RUN by other words than its folder, as commands take it."""

    def test_what_is_meant_is_said(self, sandbox: Sandbox) -> None:
        run = run_of(sandbox, "pretrain")
        by_stage = sandbox.run("eval", "pretrain", "--json")
        assert by_stage.exit_code == 0
        assert by_stage.stderr.splitlines()[0] == f"pretrain: {run}"
        exact = sandbox.run("eval", run.name, "--json")
        assert exact.stdout == by_stage.stdout and str(run) not in exact.stderr
        newest = sandbox.run("eval", "@newest", "--json")
        assert newest.stderr.splitlines()[0] == f"the newest run: {run_of(sandbox, 'adversarial')}"
        assert sandbox.run("eval", "--json").stdout == newest.stdout

    def test_commands_of_several_runs(self, sandbox: Sandbox) -> None:
        result = sandbox.run("compare", "pretrain", "features-adv", "--json")
        assert result.exit_code == 0
        assert result.stderr.splitlines()[:2] == [
            f"pretrain: {run_of(sandbox, 'pretrain')}",
            f"features-adv: {run_of(sandbox, 'adversarial')}",
        ]

    def test_an_ambiguous_one(self, sandbox: Sandbox) -> None:
        result = sandbox.run("eval", "genes")
        assert result.exit_code == 1
        assert "error: 'genes' may mean any of 2 runs in" in result.stderr
        date = r"\d{4}-\d\d-\d\d \d\d:\d\d"
        assert re.search(rf"genes-\S+-adversarial +adversarial +{date}  val mAP \d+\.\d\n", result.stderr)

    def test_from(self, sandbox: Sandbox) -> None:
        rows = ("--dataset", sandbox.folder / "genes.npz", "--steps", 3, *CRITIC)
        source = json.loads((run_of(sandbox, "pretrain") / CONFIG).read_text())["settings"]["dataset"]
        rows = ("--dataset", source, *rows[2:])
        result = sandbox.run("adversarial", *rows, "--from", "pretrain", "--out", sandbox.folder / "a", "--json")
        assert result.exit_code == 0, result.stderr
        assert f"pretrain: {run_of(sandbox, 'pretrain')}" in result.stderr
        other = sandbox.folder / "other.npz"
        make_features(other)
        refused = sandbox.run("adversarial", "--dataset", other, *rows[2:], "--from", "pretrain")
        assert refused.exit_code == 1
        assert f"there is no run 'pretrain' of {other}" in refused.stderr
        assert f"name one of them in full: {run_of(sandbox, 'pretrain').name}" in refused.stderr

    def test_clean_takes_exact_names_alone(self, sandbox: Sandbox) -> None:
        result = sandbox.run("runs", "clean", "pretrain", "--yes")
        assert result.exit_code == 1 and "there is no run 'pretrain'" in result.stderr
        assert run_of(sandbox, "pretrain").exists()

    def test_the_listing_shows_when_each_was_started(self, sandbox: Sandbox) -> None:
        names = [row["name"] for row in sandbox.json("runs")["runs"]]
        assert names == [run_of(sandbox, stage).name for stage in ("adversarial", "pretrain")]
        assert re.search(r"started *\n", sandbox.run("runs").stdout)
