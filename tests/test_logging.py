"""What is told of a training: plain lines, the live view, TensorBoard's events; none of it changes a number."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sandbox import Sandbox

from labeldep_cli.cli.lines import QUIET, Lines
from labeldep_cli.cli.view import View
from labeldep_cli.errors import LabeldepError
from labeldep_cli.progress import CombinedObserver, SilentReporter, TrainingProgress
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.runs.tensorboard import Events, RecordingReporter, require_tensorboard

CRITIC = ("--critic-layers", 1, "--critic-width", 16, "--critic-projection", 8, "--batch-size", 16)
LINE = re.compile(r"step (\d+) of (\d+): (?:(.+); )?val mAP [\d.]+, CF1 [\d.]+, exact match [\d.]+, labels per image ")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with ready features and a pretrained head."""
    folder = tmp_path_factory.mktemp("logging")
    x = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    np.savez(folder / "rows.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(["a", "b", "c"]))
    sandbox = Sandbox(folder)
    sandbox.json("pretrain", "--dataset", folder / "rows.npz", "--steps", 60, "--out", folder / "start")
    return sandbox


def words(sandbox: Sandbox, out: str, *more: object) -> tuple[object, ...]:
    where = (
        "--dataset",
        sandbox.folder / "rows.npz",
        "--from",
        sandbox.folder / "start",
        "--out",
        sandbox.folder / out,
    )
    return ("adversarial", *where, *CRITIC, *more)


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / METRICS).read_text().splitlines()]


def record(step: int, score: float = 50.0, **losses: float) -> dict:
    scores = {"mAP": score, "CF1": score - 1, "exact_match": 1.0, "labels_per_image": 2.5, "n_images": 7}
    return {"step": step, **losses, "val": {**scores, "decision": {"rule": "threshold"}}}


def test_plain_lines_say_what_metrics_jsonl_says(sandbox: Sandbox) -> None:
    told = sandbox.run(*words(sandbox, "plain", "--steps", 300))
    assert told.exit_code == 0, told.stderr
    lines = [found for found in map(LINE.match, told.stderr.splitlines()) if found]
    kept = {entry["step"]: entry for entry in records(sandbox.folder / "plain")}
    assert [int(line[1]) for line in lines] == list(kept)
    assert {line[2] for line in lines} == {"300"}
    for line in lines[1:]:
        said = {name.replace(" ", "_"): float(v) for name, v in re.findall(r"([a-z ]+) (-?[\d.e+-]+)", line[3])}
        expected = {name: v for name, v in kept[int(line[1])].items() if name not in ("step", "val")}
        assert {name.lstrip("_"): v for name, v in said.items()} == pytest.approx(expected, rel=1e-3)
        assert {"wasserstein", "critic_gradient", "generator_gradient"} <= expected.keys()
    assert " left" in told.stderr
    (closing_line,) = [line for line in told.stderr.splitlines() if line.startswith("trained to step 300 of 300 in")]
    best = json.loads((sandbox.folder / "plain" / RESULT).read_text())
    assert f"the best, step {best['best_step']}: val mAP {best['val']['mAP']:.1f}" in closing_line
    assert "step" not in told.stdout.splitlines()[0].split(": ")[0] and not LINE.search(told.stdout)


def test_lines_are_few_whatever_the_length() -> None:
    for many, evaluations in ((20, 1000), (20, 7), (4, 50), (0, 50)):
        said: list[str] = []
        lines = Lines(TrainingProgress("run", 10 * evaluations), many, said.append)
        for k in range(evaluations + 1):
            lines.advance(10 if k else 0)
            lines.evaluated(record(10 * k), best=k == 1)
        lines.close()
        assert len(said) == (min(many, evaluations) + 1 if many else 0) + 1
        assert said[-1].startswith(f"trained to step {10 * evaluations} of") and "the best, step 10: " in said[-1]


def test_losses_are_said_where_evaluations_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = Lines(TrainingProgress("run", 1000), 20, said.append)
    lines.evaluated(record(0), best=False)
    for step in range(1, 1001):
        now[0] += QUIET / 10
        lines.advance()
        lines.losses(step, {"logistic": 3.0})
        if step % 500 == 0:
            lines.evaluated(record(step, logistic=3.0), best=True)
    assert said[1] == "step 50 of 1000: logistic 3; 1:35:00 left"
    assert [line.split()[1] for line in said if "val" in line] == ["0", "500", "1000"]
    assert len(said) <= 23


def test_a_run_that_went_on_and_stopped_early_says_so() -> None:
    said: list[str] = []
    history = tuple(record(step, 60.0 - step) for step in (0, 10, 20))
    lines = Lines(TrainingProgress("run", 100, history, best=10), 20, said.append)
    lines.close()
    assert said == [], "there was nothing left to do"
    lines.advance(10)
    lines.evaluated(record(30, 1.0), best=False)
    lines.close()
    assert [line.partition(";")[0] for line in said] == [
        "step 30 of 100: val mAP 1.0, CF1 0.0, exact match 1.0, labels per image 2.50",
        "trained to step 30 of 100 in 0:00:00",
    ]
    assert "the best, step 10: val mAP 50.0" in said[1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_view_shows_all_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    view = View(TrainingProgress("scenes-adversarial", 200, (record(0, 40.0),)))
    now[0] = 10.0
    view.advance(50)
    told = {"critic": -0.25, "penalty": 0.02, "wasserstein": 0.75, "critic_gradient": 0.98, "generator": 1.5}
    for step, more in ((32, 0.0), (50, 1.0)):
        view.losses(step, {name: value + more for name, value in told.items()} | {"logistic": 9.5})
    view.evaluated(record(50, 83.5, **told, logistic=9.5, generator_gradient=4.25), best=True)
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, _environ={})
    console.print(view)
    shown = console.file.getvalue()
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].strip() == "scenes-adversarial"
    assert "step 50/200  5 steps/s  0:00:30 left" in lines[1]
    rows = {line[:24].strip(): line[24:].split() for line in lines[2:]}
    assert rows["critic loss"] == ["0.75", "▁█"]
    assert rows["Wasserstein estimate"] == ["1.75", "▁█"] and rows["critic gradient norm"][0] == "1.98"
    assert rows["generator gradient norm"] == ["4.25", "▁"], "told by the evaluation alone"
    assert rows["logistic loss"] == ["9.5", "▁▁"]
    assert rows["validation"] == ["now", "best", "(50)"]
    assert rows["mAP"] == ["83.5", "83.5", "▁█"] and rows["CF1"][0] == "82.5"
    assert rows["labels an image"][:2] == ["2.50", "2.50"]


def test_the_live_view_in_an_encoding_without_its_signs() -> None:
    view = View(TrainingProgress("run", 10, (record(0), record(5)), best=5))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    Console(file=stream, force_terminal=True, width=80, color_system=None, _environ={}).print(view)
    stream.flush()
    assert b"labels an image" in stream.buffer.getvalue()


def test_ctrl_c_leaves_the_terminal_as_it_was(sandbox: Sandbox) -> None:
    """In a terminal of its own, where the view moves; 130, and the cursor is there again."""
    main, worker = pty.openpty()
    command = [sys.executable, "-m", "labeldep_cli", *map(str, words(sandbox, "live", "--steps", 1_000_000))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    seen = b""
    with subprocess.Popen(
        command,
        stderr=worker,
        stdout=subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(worker)
        deadline, interrupted = time.monotonic() + 60, False
        while time.monotonic() < deadline:
            if select.select([main], [], [], 0.2)[0]:
                try:
                    more = os.read(main, 65536)
                except OSError:  # the other end is closed
                    break
                if not more:
                    break
                seen += more
            if not interrupted and b"Wasserstein estimate" in seen and b" left" in seen:
                process.send_signal(signal.SIGINT)
                interrupted = True
        process.kill()
    os.close(main)
    assert interrupted and process.returncode == 130, seen[-2000:]
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") >= 0, "the cursor is shown again"
    assert b"interrupted: the work so far is kept" in seen and b"Traceback" not in seen
    assert not LINE.search(seen.decode()), "no plain lines on a terminal"


class Points:
    """TensorBoard's own reading of a run."""

    def __init__(self, run: Path) -> None:
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        self.read = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
        self.tags = set(self.read.Tags()["scalars"])

    def of(self, tag: str) -> dict[int, float]:
        events = self.read.Scalars(tag)
        assert len({event.step for event in events}) == len(events), f"{tag} has two points at a step"
        return {event.step: event.value for event in events}


def require_events_fit(run: Path) -> None:
    """Scores are metrics.jsonl's; losses, told in short stretches, have its means."""
    kept, points = records(run), Points(run)
    for name in ("mAP", "CF1", "labels_per_image", "true_labels_per_image"):
        assert points.of(f"val/{name}") == pytest.approx({r["step"]: r["val"][name] for r in kept}, rel=1e-6)
    gradients = {r["step"]: r["generator_gradient"] for r in kept[1:]}
    assert points.of("train/generator_gradient") == pytest.approx(gradients, rel=1e-6)
    for name in ("critic", "penalty", "wasserstein", "critic_gradient", "generator", "logistic"):
        stretches = sorted(points.of(f"train/{name}").items())
        for before, entry in pairwise(kept):
            at, total = before["step"], 0.0
            for step, value in stretches:
                if before["step"] < step <= entry["step"]:
                    total, at = total + value * (step - at), step
            assert at == entry["step"]
            assert total / (at - before["step"]) == pytest.approx(entry[name], rel=1e-4, abs=1e-6)


@pytest.fixture(scope="module")
def recorded(sandbox: Sandbox) -> Path:
    result = sandbox.run(*words(sandbox, "recorded", "--steps", 300, "--tensorboard"))
    assert result.exit_code == 0, result.stderr
    return sandbox.folder / "recorded"


def test_events_are_metrics_jsonl(recorded: Path) -> None:
    require_events_fit(recorded)
    assert {"val/n_images", "val/decision"}.isdisjoint(Points(recorded).tags)


def test_no_number_depends_on_who_looks_on(sandbox: Sandbox, recorded: Path) -> None:
    assert sandbox.run(*words(sandbox, "without", "--steps", 300)).exit_code == 0
    for name in (LAST, BEST, METRICS, RESULT):
        assert (recorded / name).read_bytes() == (sandbox.folder / "without" / name).read_bytes(), name
    assert not (sandbox.folder / "without" / "tensorboard").exists()


def interrupted(sandbox: Sandbox, out: str, *more: object, evaluations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and interrupt after so many evaluations and the next stretch of losses."""
    seen = []
    evaluated, losses = Lines.evaluated, Lines.losses

    def count(self: Lines, entry: dict, best: bool) -> None:
        seen.append(entry["step"])
        evaluated(self, entry, best)

    def interrupt(self: Lines, step: int, means: dict) -> None:
        losses(self, step, means)
        if len(seen) > evaluations and step > seen[-1] + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "evaluated", count)
        patch.setattr(Lines, "losses", interrupt)
        # TensorBoard hears first here: what it wrote past the last checkpoint has to be taken back.
        patch.setattr(
            "labeldep_cli.runs.tensorboard.CombinedObserver", lambda *watches: CombinedObserver(*reversed(watches))
        )
        assert sandbox.run(*words(sandbox, out, "--steps", 300, *more)).exit_code == 130


def test_a_run_that_goes_on_has_no_point_twice(
    sandbox: Sandbox, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sandbox.folder / "resumed"
    interrupted(sandbox, "resumed", "--tensorboard", evaluations=2, monkeypatch=monkeypatch)
    step = records(run)[-1]["step"]
    assert max(Points(run).of("train/critic")) > step, "a stretch past the checkpoint was written"
    assert sandbox.run(*words(sandbox, "resumed", "--steps", 300, "--tensorboard")).exit_code == 0
    assert len(list((run / "tensorboard").iterdir())) == 2
    require_events_fit(run)
    assert (run / LAST).read_bytes() == (recorded / LAST).read_bytes()


def test_a_run_begun_without_is_made_up_for(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(sandbox, "late", evaluations=2, monkeypatch=monkeypatch)
    assert sandbox.run(*words(sandbox, "late", "--steps", 300, "--tensorboard")).exit_code == 0
    require_events_fit(sandbox.folder / "late")


def test_events_of_a_finished_run_are_written_when_asked_for(sandbox: Sandbox, recorded: Path) -> None:
    run = sandbox.folder / "finished"
    for flags in ((), ("--tensorboard",), ("--tensorboard",)):
        result = sandbox.run(*words(sandbox, "finished", "--steps", 300, *flags))
        assert result.exit_code == 0
    assert "is finished already" in result.stderr and len(list((run / "tensorboard").iterdir())) == 1
    kept = records(run)
    assert Points(run).of("train/wasserstein") == pytest.approx({r["step"]: r["wasserstein"] for r in kept[1:]})
    require_events_fit(run)
    sandbox.run(*words(sandbox, "recorded", "--steps", 300, "--tensorboard"))
    assert len(list((recorded / "tensorboard").iterdir())) == 1, "what was told in short stretches stays"


def test_events_of_a_run_without_a_checkpoint_and_of_one_made_anew_are_dropped(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        with closing(Events(tmp_path / "tensorboard", TrainingProgress("run", 10))) as events:
            events.losses(1, {"critic": value})
    assert Points(tmp_path).of("train/critic") == {1: 2.0}
    for more in (("--tensorboard",), ("--fresh",)):
        assert sandbox.run(*words(sandbox, "anew", "--steps", 2, *more)).exit_code == 0
        assert (sandbox.folder / "anew" / "tensorboard").exists() == (more == ("--tensorboard",))


def test_a_missing_extra_is_told_before_anything_begins(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LabeldepError, match="is not installed"):
        require_tensorboard()
    result = sandbox.run(*words(sandbox, "missing", "--steps", 2, "--tensorboard"))
    assert result.exit_code == 1
    assert "error: --tensorboard needs the package tensorboard" in result.stderr
    assert "pip install 'labeldep[tensorboard]'" in result.stderr
    assert not (sandbox.folder / "missing").exists()


def test_a_recorded_training_is_watched_by_both(tmp_path: Path) -> None:
    class Heard(SilentReporter):
        notes: tuple[str, ...] = ()

        def note(self, text: str) -> None:
            self.notes += (text,)

    reporter = Heard()
    recorder = RecordingReporter(reporter, tmp_path)
    recorder.note("a note")
    with recorder.training(TrainingProgress("run", 10)) as watch:
        watch.advance()
        watch.losses(1, {"logistic": 3.0})
        watch.evaluated(record(1, logistic=3.0, generator_gradient=2.0, critic_val=0.5), best=True)
    points = Points(tmp_path)
    assert points.tags >= {"train/logistic", "train/generator_gradient", "val/critic_val", "val/CF1"}
    assert "train/step" not in points.tags and reporter.notes == ("a note",)
