"""Ctrl-C and SIGTERM in training: a checkpoint at the step where they come, and the same bytes at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from sandbox import Sandbox, make_table
from test_training import STEPS, bytes_of, make_inputs, make_step
from torch.optim.optimizer import register_optimizer_step_pre_hook
from typer.testing import CliRunner

import labeldep_cli
from labeldep_cli.cli import app
from labeldep_cli.cli.termination import as_interruption
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.compute.interruption import deferred, interrupt
from labeldep_cli.errors import TrainingError
from labeldep_cli.inputs import streamed
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training import fit as fitting
from labeldep_cli.training.fit import Schedule, State, fit

FILES = (LAST, BEST, METRICS, RESULT)


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    """A suite in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "no handler is left behind"
    signal.signal(signal.SIGINT, before)


@contextmanager
def interrupted_amid(*updates: int, by: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Signals just before these optimizer steps, counted from 1: gradients are there, weights are not yet moved."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        for _ in range(updates.count(made)):
            signal.raise_signal(by)

    hook = register_optimizer_step_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()


class Notes(SilentReporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(folder: Path, per_epoch: int = 4, adversarial: bool = True, world: World = ALONE, **changes: Any) -> Notes:
    """Twelve steps, evaluated at every fourth."""
    folder.mkdir(exist_ok=True)
    step, notes = make_step(make_inputs(16, seed=0), adversarial, **changes), Notes()
    fit(
        step,
        step.generator,
        step.inputs,
        make_inputs(40, seed=1),
        Schedule(STEPS, per_epoch),
        folder,
        {"stage": "test"},
        notes,
        world,
    )
    return notes


def interrupted(folder: Path, *updates: int, **changes: Any) -> None:
    with interrupted_amid(*updates), pytest.raises(KeyboardInterrupt):
        train(folder, **changes)


KINDS = {
    "wgan-gp": (4, {}),
    "nce": (4, {"critic": "nce"}),
    "frozen": (3, {"freeze_generator": True, "critic": "nce"}),
    "frozen wgan-gp": (3, {"freeze_generator": True}),
    "warm-up": (4, {"critic_warmup": 5}),
    "in parts": (4, {"accumulate": 3, "max_gradient_norm": 0.1}),
    "members": (6, {"freeze_generator": True, "critic": "nce", "members": 2}),
    "weight decay": (4, {"weight_decay": 1.0, "critic_weight_decay": 2.0}),
    "pretrain": (1, {"adversarial": False}),
}
"""Optimizer steps a step of training, and settings."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The files of an unbroken run of each kind."""
    made: dict[str, dict[str, bytes]] = {}

    def of(kind: str) -> dict[str, bytes]:
        if kind not in made:
            folder = tmp_path_factory.mktemp("unbroken")
            train(folder, **KINDS[kind][1])
            made[kind] = bytes_of(folder)
        return made[kind]

    return of


class TestFit:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("step", [1, 2, 4, 5, 11, 12])
    def test_it_saves_where_it_is_and_ends_with_the_same_bytes(self, unbroken, tmp_path, kind, step):
        """Amid a step, whatever was updated already: it is finished. 4 and 12 are evaluated next, when it resumes."""
        folder, (updates, changes) = tmp_path / "run", KINDS[kind]
        amid = updates * (step - 1) + changes.get("critic_warmup", 0) + max(updates - 1, 1)
        interrupted(folder, amid, **changes)
        assert checkpoint.read_facts(folder / LAST)["step"] == step
        assert (folder / BEST).exists() == (step > 4) and not (folder / RESULT).exists()
        notes = train(folder, **changes).notes
        assert f"resuming at step {step} of {folder}" in notes
        assert bytes_of(folder) == unbroken(kind)

    def test_again_and_again(self, unbroken, tmp_path):
        folder = tmp_path / "run"
        for _ in range(STEPS):
            interrupted(folder, 2)
        assert checkpoint.read_facts(folder / LAST)["step"] == STEPS
        train(folder)
        assert bytes_of(folder) == unbroken("wgan-gp")

    def test_what_is_said(self, tmp_path):
        step, notes = make_step(make_inputs(16)), Notes()
        with interrupted_amid(7), pytest.raises(KeyboardInterrupt):
            fit(step, step.generator, step.inputs, make_inputs(40, 1), Schedule(STEPS, 4), tmp_path, {}, notes)
        assert notes.notes == ["finishing step 2, then saving; press Ctrl-C again to stop now", "saved at step 2"]

    @pytest.mark.parametrize("updates", [(18, 18), (18, 19)])
    def test_a_second_one_ends_at_once(self, unbroken, tmp_path, updates):
        """At step 5: the checkpoint of the evaluation at 4 stays as it was."""
        folder, expected = tmp_path / "run", tmp_path / "expected"
        interrupted(expected, 16)  # after step 4
        with interrupted_amid(), pytest.raises(KeyboardInterrupt):
            self.evaluated_once(expected)
        interrupted(folder, *updates)
        assert bytes_of(folder) == bytes_of(expected)
        train(folder)
        assert bytes_of(folder) == unbroken("wgan-gp")

    def evaluated_once(self, folder: Path) -> None:
        """Go on up to the next evaluation's end, and no further."""
        save = fitting.save

        def saved(*given: Any) -> None:
            save(*given)
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "save", saved)
            train(folder)

    @pytest.mark.parametrize("which", [1, 2, 3, 4])
    @pytest.mark.parametrize("kind", ["wgan-gp", "frozen"])
    def test_amid_an_evaluation_it_ends_at_once_and_keeps_the_steps(self, unbroken, tmp_path, monkeypatch, kind, which):
        """The first one comes before any update: there is nothing to keep."""
        folder, collect, evaluations, after = tmp_path / "run", fitting.collect_logits, [], []

        def amid(*given: Any) -> Any:
            evaluations.append(1)
            if len(evaluations) == which:
                signal.raise_signal(signal.SIGINT)
                after.append(1)
            return collect(*given)

        with monkeypatch.context() as patch:
            patch.setattr(fitting, "collect_logits", amid)
            with pytest.raises(KeyboardInterrupt):
                train(folder, **KINDS[kind][1])
        assert not after, "the evaluation was not finished first"
        assert checkpoint.read_facts(folder / LAST).get("step") == (4 * (which - 1) or None)
        train(folder, **KINDS[kind][1])
        assert bytes_of(folder) == unbroken(kind)

    def test_as_the_last_checkpoint_is_written(self, unbroken, tmp_path, monkeypatch):
        """It is written to its end, and nothing is left to train."""
        save = checkpoint.save

        def signalled(path: Path, *rest: Any) -> None:
            if path.name == LAST and rest[1]["step"] == STEPS:
                signal.raise_signal(signal.SIGINT)
            save(path, *rest)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoint, "save", signalled)
            train(tmp_path / "run")
        assert not (tmp_path / "run" / RESULT).exists()
        train(tmp_path / "run")
        assert bytes_of(tmp_path / "run") == unbroken("wgan-gp")

    def test_a_loss_that_is_not_finite_is_not_saved(self, tmp_path):
        folder = tmp_path / "run"
        with interrupted_amid(4 * 4 + 1), pytest.raises((TrainingError, KeyboardInterrupt)):
            train(folder, critic_lr=1e15)
        assert not (folder / LAST).exists() or checkpoint.read_facts(folder / LAST)["step"] <= 4

    def test_sigterm_as_the_command_line_hears_it(self, unbroken, tmp_path):
        folder = tmp_path / "run"
        with as_interruption(), interrupted_amid(7, by=signal.SIGTERM), pytest.raises(KeyboardInterrupt):
            train(folder)
        assert checkpoint.read_facts(folder / LAST)["step"] == 2
        train(folder)
        assert bytes_of(folder) == unbroken("wgan-gp")

    def test_of_several_processes_each_ends_at_once(self, tmp_path, monkeypatch):
        several = World(0, 2)
        for name in ("wait", "add"):
            monkeypatch.setattr(World, name, lambda *_: None)
        monkeypatch.setattr(World, "broadcast", lambda _, said: said)
        interrupted(tmp_path / "run", 7, world=several)
        assert not (tmp_path / "run" / LAST).exists()

    def test_in_another_thread_nothing_is_handled(self, unbroken, tmp_path):
        handlers = []

        def work() -> None:
            hook = register_optimizer_step_pre_hook(lambda *_: handlers.append(signal.getsignal(signal.SIGINT)))
            train(tmp_path / "run")
            hook.remove()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert set(handlers) == {signal.default_int_handler}
        assert bytes_of(tmp_path / "run") == unbroken("wgan-gp")

    def test_a_handler_of_somebody_else_stays(self, unbroken, tmp_path):
        heard = []
        signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        with interrupted_amid(7):
            train(tmp_path / "run")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert heard == [1] and bytes_of(tmp_path / "run") == unbroken("wgan-gp")


class TestDeferral:
    def test_outside_a_block_it_interrupts(self):
        with pytest.raises(KeyboardInterrupt):
            interrupt()

    def test_a_note_amid_a_print_does_not_break_it(self):
        def reentrant() -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

        with deferred(reentrant) as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.requested

    def test_a_part_that_ends_at_once_requests_nothing(self):
        with deferred(lambda: None) as interruption:
            with pytest.raises(KeyboardInterrupt), interruption.at_once():
                signal.raise_signal(signal.SIGINT)
            assert not interruption.requested
            signal.raise_signal(signal.SIGINT)
            assert interruption.requested

    def test_state_without_an_interruption_says_nothing_of_one(self):
        assert State().unevaluated == {}


# The commands


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("interrupted"))
    make_table(sandbox.table.parent, 40)  # 24 train, 8 val, 8 test
    sandbox.json("pretrain", *words(sandbox), "--steps", 3)
    return sandbox


def words(sandbox: Sandbox) -> tuple[object, ...]:
    return ("--dataset", sandbox.table, "--backbone", "scenesnet", "--batch-size", 4, "--workers", 0)


def files_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


QUICK = ("--critic-layers", 1, "--critic-width", 8, "--steps", 60)
COMMANDS: dict[str, tuple[tuple[object, ...], tuple[int, ...]]] = {
    "wgan-gp": (("adversarial", *QUICK), (10, 190)),
    "critic at test time": (
        ("adversarial", *QUICK, "--critic", "nce", "--freeze-generator", "--critic-warmup", 4),
        (3, 170),
    ),
    "control": (("adversarial", "--critic", "none", "--steps", 60), (2, 57)),
    "streamed": (("adversarial", *QUICK, "--max-memory", "10KB"), (10, 190)),
    "full": (("pretrain", "--full", "--steps", 8), (2, 5)),
    "full against the critic": (("adversarial", "--full", *QUICK[:-1], 8), (2, 22)),
}
"""Commands, and the optimizer steps of the first and of the second attempt that are interrupted."""


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_end_with_the_same_bytes(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(streamed, "_POOL_ROWS", 4)
    monkeypatch.setattr(streamed, "_POOL_BLOCKS", 2)
    (command, *more), moments = COMMANDS[kind]
    line = (command, *words(sandbox), *more)
    whole = sandbox.json(*line, "--out", tmp_path / "whole")
    attempt = (*line, "--out", tmp_path / "broken")
    steps = []
    for moment in moments:
        with interrupted_amid(moment):
            result = sandbox.run(*attempt)
        assert result.exit_code == 130, result.stderr
        steps.append(checkpoint.read_facts(tmp_path / "broken" / LAST)["step"])
        assert f"finishing step {steps[-1]}, then saving; press Ctrl-C again to stop now" in result.stderr
        if len(steps) > 1:
            assert f"resuming at step {steps[0]} of" in result.stderr
    assert 0 < steps[0] < steps[1] < whole["steps"]
    ended = sandbox.json(*attempt)
    assert ended["val"] == whole["val"]
    assert (json.loads((tmp_path / "whole" / "config.json").read_text())["blocks"] is not None) == (kind == "streamed")
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


def test_a_run_without_an_evaluation(sandbox: Sandbox) -> None:
    """Interrupted before its first one: it has a checkpoint to go on from, and none to use."""
    name = "early"
    run = sandbox.folder / "runs" / name
    with interrupted_amid(3):
        assert sandbox.run("pretrain", *words(sandbox), "--steps", 60, "--out", run).exit_code == 130
    said = f"the run {run} has no checkpoint yet to use: it stopped at step 3 of 60, before its first evaluation"
    for use in (("eval", name), ("predict", sandbox.table.parent / "img" / "0.png", "--run", name), ("export", name)):
        result = sandbox.run(*use)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {said}\n")
        assert "run its training command again" in result.stderr
    rows = {Path(row["run"]).name: row for row in sandbox.json("runs")["runs"]}
    assert (rows[name]["state"], rows[name]["step"], rows[name]["steps"]) == ("unfinished", 3, 60)
    assert rows[name]["best_step"] is None and rows[name]["val"] is None
    listed = next(line for line in sandbox.run("runs").stdout.splitlines() if name in line)
    assert "unfinished" in listed and "3 of 60" in listed
    assert sandbox.json("runs", "clean")["items"] == [], "it can go on"
    (item,) = sandbox.json("runs", "clean", "--unfinished")["items"]
    assert Path(item["run"]) == run and item["why"] == "unfinished"
    sandbox.json("runs", "clean", "--unfinished", "--yes")
    assert not run.exists()


def test_the_listing_counts_the_steps_since_the_last_evaluation(sandbox: Sandbox) -> None:
    run = sandbox.folder / "runs" / "late"
    with interrupted_amid(57):
        assert sandbox.run("pretrain", *words(sandbox), "--steps", 200, "--out", run).exit_code == 130
    (row,) = (row for row in sandbox.json("runs")["runs"] if Path(row["run"]) == run)
    assert (row["step"], row["best_step"]) == (57, 54)
    sandbox.json("runs", "clean", "late", "--yes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_that_decode_outlive_it(sandbox: Sandbox, tmp_path: Path, number: signal.Signals) -> None:
    """A terminal sends Ctrl-C or SIGHUP to the process group; a scheduler SIGTERM. The step needs its images."""
    line = ("pretrain", *words(sandbox)[:-1], 2, "--full", "--batch-size", 12, "--steps", 300, "--val-fraction", 0.1)
    out, log = tmp_path / "run", tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _SIGNALLED, str(int(number)), *map(str, line), "--out", str(out)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(labeldep_cli.__file__).parents[1]),
                "OMP_NUM_THREADS": "1",
                "LABELDEP_DATA": str(sandbox.folder / "data"),
                "LABELDEP_RUNS": str(sandbox.folder / "runs"),
            },
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    begun = time.monotonic()
    assert process.wait(120) == 130, log.read_text()
    told = log.read_text()
    assert "Traceback" not in told and "killed" not in told
    step = re.search(r"finishing step (\d+), then saving", told)
    assert step and f"saved at step {step[1]}" in told
    assert checkpoint.read_facts(out / LAST)["step"] == int(step[1]) == 3
    assert time.monotonic() - begun < 60


_SIGNALLED = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_pre_hook
from labeldep_cli.cli import app

number, made = int(sys.argv.pop(1)), 0
signal.signal(signal.SIGINT, signal.default_int_handler)

def count(*_):
    global made
    made += 1
    if made == 3:
        os.killpg(0, number)

register_optimizer_step_pre_hook(count)
app(prog_name="labeldep")
"""


_SIGNALLED_AT_EXIT = """
import atexit, os, signal
from labeldep_cli.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
main()
"""


def test_one_more_while_the_process_ends_prints_no_traceback() -> None:
    """The command is done; Python runs the last functions of its libraries."""
    process = subprocess.run(
        [sys.executable, "-c", _SIGNALLED_AT_EXIT, "--version"],
        env={**os.environ, "PYTHONPATH": str(Path(labeldep_cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stdout == f"labeldep {labeldep_cli.__version__}\n"
    assert process.stderr == ""
    assert process.returncode == -signal.SIGINT


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="an interruption is not tried again here")
def test_a_sound_checkpoint_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Safetensors makes an error of its own of what is raised while it builds a tensor."""
    checkpoint.save(tmp_path / LAST, {"x": torch.zeros(3)}, {"step": 1})
    built, asked = torch.asarray, []

    def interrupted(*words: Any, **named: Any) -> torch.Tensor:
        asked.append(signal.raise_signal(signal.SIGTERM))
        return built(*words, **named)

    monkeypatch.setattr(torch, "asarray", interrupted)
    with pytest.raises(KeyboardInterrupt), as_interruption():
        checkpoint.load(tmp_path / LAST)
        time.sleep(5)
    if not asked:
        pytest.skip("this version of safetensors builds tensors otherwise")
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_one_more_while_the_command_reports_the_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labeldep_cli.cli.print_note", interrupted)
    monkeypatch.setattr("labeldep_cli.cli.termination.as_interruption", interrupted)
    result = CliRunner().invoke(app, ["runs"])
    assert result.exit_code == 130 and "Abort" not in result.stderr


def test_events_go_on_after_an_interruption(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each step's losses are told once, though the run went on between two evaluations."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    line = ("pretrain", *words(sandbox), "--steps", 60, "--tensorboard", "--out", out)
    with interrupted_amid(20):
        assert sandbox.run(*line).exit_code == 130
    assert sandbox.run(*line).exit_code == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("train/logistic")]
    assert steps == sorted(set(steps)) and 20 in steps
    assert [event.step for event in events.Scalars("val/mAP")] == [
        json.loads(line)["step"] for line in (out / METRICS).read_text().splitlines()
    ]


@pytest.mark.parametrize(("error", "is_reported"), [("ConnectionResetError()", False), ("ValueError('torn')", True)])
def test_a_worker_whose_parent_closes_a_connection_reports_nothing(error: str, is_reported: bool) -> None:
    """As a thread of multiprocessing does that sends tensors: it calls the hook with what it caught."""
    code = (
        "import sys\n"
        "from labeldep_cli.compute.interruption import leave_to_parent\n"
        "leave_to_parent(0)\n"
        f"try:\n    raise {error}\nexcept Exception:\n    sys.excepthook(*sys.exc_info())\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("Traceback" in process.stderr) is is_reported
