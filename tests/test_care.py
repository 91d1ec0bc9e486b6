"""Looking after a machine and its runs: doctor, runs, completion, and ends by signal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sandbox import LABELS, Sandbox
from typer.testing import CliRunner

from labeldep_cli import config
from labeldep_cli.cli import app
from labeldep_cli.files import format_size, lock
from labeldep_cli.pipelines import doctor as checkup

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A workspace with ready features (80 rows, 3 of them val) and a run of two steps on them."""
    sandbox = Sandbox(tmp_path)
    x = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    np.savez(tmp_path / "t.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(LABELS))
    assert train(sandbox, "pretrain").exit_code == 0
    return sandbox


def train(sandbox: Sandbox, command: str, *words: object):
    return sandbox.run(command, "--dataset", sandbox.folder / "t.npz", "--steps", 2, *words)


def run_of(sandbox: Sandbox, stage: str) -> Path:
    (found,) = (sandbox.folder / "runs").glob(f"t-*-{stage}")
    return found


def unfinish(run: Path) -> Path:
    (run / "result.json").unlink()
    return run


# labeldep runs


def test_runs_are_listed_newest_first_with_their_scores(sandbox: Sandbox) -> None:
    assert train(sandbox, "adversarial", "--critic-layers", 1).exit_code == 0
    found = sandbox.json("runs")["runs"]
    assert [(row["stage"], row["critic"], row["state"]) for row in found] == [
        ("adversarial", "wgan-gp", "finished"),
        ("pretrain", None, "finished"),
    ]
    for row in found:
        folder = Path(row["run"])
        result = json.loads((folder / "result.json").read_text())
        assert row["val"] == {name: result["val"][name] for name in ("mAP", "CF1", "OF1", "exact_match")}
        assert (row["step"], row["steps"], row["best_step"]) == (2, 2, result["best_step"])
        assert row["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
        assert row["backbone"] is None
        assert sandbox.run("eval", row["name"]).exit_code == 0, "the name is one that eval takes"
    shown = sandbox.run("runs").stdout
    assert shown.index("-adversarial") < shown.index("-pretrain")
    assert f"{found[0]['val']['mAP']:.2f}" in shown


def test_the_best_evaluation_of_an_unfinished_run_is_the_one_in_its_checkpoint(sandbox: Sandbox) -> None:
    for stage, flags in (("pretrain", ()), ("critic", ("--critic", "nce", "--freeze-generator"))):
        command = "pretrain" if stage == "pretrain" else "adversarial"
        words = ("--steps", 100, "--lr", 0.3, "--out", sandbox.folder / "runs" / stage, *flags)
        assert train(sandbox, command, *words).exit_code == 0
        kept = json.loads((sandbox.folder / "runs" / stage / "result.json").read_text())
        unfinish(sandbox.folder / "runs" / stage)
        (row,) = [row for row in sandbox.json("runs")["runs"] if row["name"] == stage]
        assert (row["state"], row["best_step"]) == ("unfinished", kept["best_step"])
        assert row["val"]["mAP"] == kept["val"]["mAP"]


def test_runs_are_listed_without_torch(sandbox: Sandbox) -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from labeldep_cli.cli import app; "
        f"result = CliRunner().invoke(app, ['runs', '--runs-dir', {str(sandbox.folder / 'runs')!r}]); "
        "assert '-pretrain' in result.stdout; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_broken_run_is_told_and_hides_no_other(sandbox: Sandbox) -> None:
    broken = sandbox.folder / "runs" / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    result = sandbox.run("runs")
    assert f"left out: {broken}: its config.json is broken: Expecting property name" in result.stderr
    assert "-pretrain" in result.stdout


def test_no_runs(tmp_path: Path) -> None:
    result = Sandbox(tmp_path).run("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "labeldep adversarial" in result.stderr
    assert Sandbox(tmp_path).json("runs")["runs"] == []
    assert list(tmp_path.iterdir()) == []


# labeldep runs clean


def test_clean_removes_only_what_is_of_no_use(sandbox: Sandbox) -> None:
    runs, kept = sandbox.folder / "runs", run_of(sandbox, "pretrain")
    never, begun, other = runs / "never", runs / "begun", runs / "notes"
    for folder in (never, begun, other, kept / ".checkpoint.writing"):
        folder.mkdir()
    (never / ".lock").touch()
    (begun / "config.json").write_bytes((kept / "config.json").read_bytes())
    (kept / ".checkpoint.writing" / "x").write_text("half")
    (kept / ".metrics.jsonl.writing").write_text("half")
    (other / "config.json").write_text('{"model_type": "bert"}')
    before = {path: path.read_bytes() for path in kept.iterdir() if path.is_file() and "writing" not in path.name}

    listed = sandbox.run("runs", "clean")
    assert listed.exit_code == 0
    assert "nothing was removed: add --yes" in listed.stderr
    assert never.exists()
    assert begun.exists()
    whys = {Path(item["run"]).name: (item["why"], item["removed"]) for item in sandbox.json("runs", "clean")["items"]}
    assert whys == {
        "never": ("never began", False),
        "begun": ("no checkpoint", False),
        kept.name: ("left by a kill during a write", False),
    }
    assert all(item["removed"] for item in sandbox.json("runs", "clean", "--yes")["items"])
    assert sorted(path.name for path in runs.iterdir()) == sorted(["notes", kept.name])
    assert {path: path.read_bytes() for path in kept.iterdir()} == before
    assert "nothing to clean" in sandbox.run("runs", "clean", "--yes").stderr


def test_clean_unfinished_takes_the_finished_for_none(sandbox: Sandbox) -> None:
    assert train(sandbox, "adversarial", "--critic-layers", 1).exit_code == 0
    unfinished = unfinish(run_of(sandbox, "adversarial"))
    assert sandbox.json("runs", "clean", "--yes")["items"] == [], "it can go on"
    assert sandbox.json("runs", "clean", "--unfinished", "--yes")["items"][0]["run"] == str(unfinished)
    assert not unfinished.exists()
    assert run_of(sandbox, "pretrain").exists()


def test_clean_last_leaves_a_run_that_evaluates(sandbox: Sandbox) -> None:
    run = run_of(sandbox, "pretrain")
    scores = sandbox.json("eval")
    best = (run / "best.safetensors").read_bytes()
    (run / "best.safetensors").write_bytes(best[:100])
    assert sandbox.json("runs", "clean", "--last")["items"] == [], "a broken best may be rebuilt from last"
    (run / "best.safetensors").write_bytes(best)
    (item,) = sandbox.json("runs", "clean", "--last", "--yes")["items"]
    assert item["files"] == ["last.safetensors"]
    assert sandbox.json("eval") == scores
    assert "is finished already" in train(sandbox, "pretrain").stderr


def test_clean_a_named_run_keeps_the_users_own_files(sandbox: Sandbox) -> None:
    run = run_of(sandbox, "pretrain")
    (run / "notes.txt").write_text("mine")
    assert sandbox.run("runs", "clean", run.name, "--yes").exit_code == 0
    assert [path.name for path in run.iterdir() if path.name != ".lock"] == ["notes.txt"]
    gone = sandbox.run("runs", "clean", "t-pretrain", "--yes")
    assert gone.exit_code == 1
    assert "there is no run 't-pretrain'" in gone.stderr
    other = sandbox.folder / "runs" / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    refused = sandbox.run("runs", "clean", "other", "--yes")
    assert refused.exit_code == 1
    assert "is not recognised as a run" in refused.stderr
    assert (other / "config.json").exists()


def test_a_run_in_training_stays(sandbox: Sandbox) -> None:
    run = unfinish(run_of(sandbox, "pretrain"))
    program = (
        "import sys, pathlib; from labeldep_cli.files import lock\n"
        f"with lock(pathlib.Path({str(run / '.lock')!r}), 'it'): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert sandbox.json("runs")["runs"][0]["state"] == "training"
        for words in (("--unfinished",), (run.name,)):
            (item,) = sandbox.json("runs", "clean", *words, "--yes")["items"]
            assert (item["in_use"], item["removed"]) == (True, False)
        other.stdin.close()
    assert (run / "best.safetensors").exists()
    assert sandbox.json("runs")["runs"][0]["state"] == "unfinished"
    with lock(run / ".lock", "it", patience=0):
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--yes",), "runs clean"),
        (("list", "x"), "runs clean"),
        (("clean", "x", "--unfinished"), "leave it out"),
        (("claen",), "'clean'"),
    ],
)
def test_runs_used_wrongly(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    result = Sandbox(tmp_path).run("runs", *words)
    assert result.exit_code == 2
    assert told in re.sub(r"[\s│]+", " ", result.stderr)


# labeldep doctor


def test_doctor_where_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    found = Sandbox(tmp_path).json("doctor")
    assert [row["lacking"] == [] for row in found["datasets"]] == [False, False, False, True]
    assert {row["backbone"]: row["on_disk"] for row in found["weights"]} == dict.fromkeys(config.PAPER_BACKBONES)
    sizes = {row["backbone"]: row["published"] / 1e6 for row in found["weights"]}
    assert sizes["resnet101"] == pytest.approx(178.8, abs=0.5), "as on pytorch.org"
    assert found["runs"]["finished"] == 0
    assert found["versions"]["torch"]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    text = Sandbox(tmp_path).run("doctor")
    assert text.exit_code == 0
    assert "resnet101 (default): not on disk; when needed, 178.8 MB are downloaded from https://" in text.stdout


def test_doctor_sees_what_is_there(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(sandbox.folder / "hub"))
    weights = sandbox.folder / "hub" / "hub" / "checkpoints" / "resnet101-cd907fc2.pth"
    coco, features = sandbox.folder / "data" / "coco", sandbox.folder / "data" / "features"
    for folder in (weights.parent, coco / "annotations", coco / "train2014", features):
        folder.mkdir(parents=True)
    weights.write_bytes(b"cut off")
    (coco / "annotations" / "instances_train2014.json").touch()
    (features / "some").mkdir()
    (features / "some" / "a.h5").write_bytes(b"12345")
    (features / "some" / "b.h5.partial").write_bytes(b"123")
    found = sandbox.json("doctor")
    assert [Path(path).name for path in found["datasets"][0]["lacking"]] == ["instances_val2014.json", "val2014"]
    assert found["caches"]["finished"] == [{"file": "some/a.h5", "bytes": 5}]
    assert found["caches"]["unfinished"] == [{"file": "some/b.h5.partial", "bytes": 3}]
    assert found["runs"]["finished"] == 1
    told = " ".join(warning["what"] for warning in found["warnings"])
    assert "resnet101-cd907fc2.pth has 7 bytes" in told
    assert "b.h5.partial is unfinished" in told
    assert "warning: " in sandbox.run("doctor").stdout


def test_what_doctor_warns_of() -> None:
    memory = {"total": None, "available": None, "shm_total": 64_000_000, "shm_free": 64_000_000}
    threads = {"OMP_WAIT_POLICY": "active", "quota": 1.5, "torch": 16, "decoding": 8}
    disks = [{"what": what, "free": 10**9} for what in ("caches", "runs")]
    device = {"kind": "cpu", "nvidia_driver": True}
    found = checkup._warnings(device, memory, threads, [], {"folder": "f", "unfinished": []}, disks)
    told = [warning.what for warning in found]
    assert [word in what for word, what in zip(("GPU", "ACTIVE", "1.5 cores", "shm", "1.0 GB"), told, strict=True)] == [
        True
    ] * 5
    # Two batches of 32 images of 3 x 224 x 224 bytes in each of 8 processes.
    assert "8 decoding processes need 77 MB, with --views 21 1,618 MB" in told[3]
    fine = {**memory, "shm_free": 2 * 10**9}
    calm = {"OMP_WAIT_POLICY": "PASSIVE", "quota": None, "torch": 16, "decoding": 8}
    nothing = {"folder": "f", "unfinished": []}
    assert not list(checkup._warnings({"kind": "cuda"}, fine, calm, [], nothing, [{"what": "x", "free": 10**10}]))


def test_doctor_knows_what_the_package_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.search(r"\ndependencies = \[(.*?)\n\]", project, re.DOTALL)[1]
    assert set(re.findall(r'"([a-z0-9-]+)>=', needed)) == set(checkup.NEEDED)
    for extra, names in checkup.EXTRAS.items():
        listed = re.search(rf"\n{extra} = \[(.*?)\]", project, re.DOTALL)[1]
        assert set(re.findall(r'"([a-z0-9-]+)>=', listed)) == set(names)


@pytest.mark.parametrize(
    ("n", "told"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (178_814_045, "178.8 MB"), (2e15, "2000.0 TB")]
)
def test_sizes_for_a_person(n: float, told: str) -> None:
    assert format_size(n) == told


# Completion


def completed(line: str, folder: Path, runs: Path | None = None) -> list[str]:
    """What bash is offered for the last word of a line; fails where torch or numpy is imported for it."""
    program = (
        "import sys, atexit; atexit.register(lambda: print([n for n in ('torch', 'numpy') if n in sys.modules], "
        "file=sys.stderr)); from labeldep_cli.cli import main; main()"
    )
    shell = {"_LABELDEP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    where = {"LABELDEP_RUNS": str(runs)} if runs else {}
    environment = {**os.environ, **shell, **where, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
    return done.stdout.split()


def test_completion(sandbox: Sandbox) -> None:
    assert completed("labeldep do", sandbox.folder) == ["doctor"]
    assert completed("labeldep extract --dataset nus", sandbox.folder) == ["nuswide", "nuswide-official"]
    assert completed("labeldep pretrain --backbone resnet", sandbox.folder) == ["resnet101", "resnet152"]
    assert completed("labeldep eval --threshold t", sandbox.folder) == ["tuned", "tuned-per-label"]
    run = run_of(sandbox, "pretrain")
    runs = sandbox.folder / "runs"
    (runs / "empty").mkdir()
    elsewhere = sandbox.folder / "elsewhere"
    elsewhere.mkdir()
    for line in ("eval t", "compare t", "adversarial --from t", "predict x.jpg --run t", "runs clean "):
        assert completed(f"labeldep {line}", sandbox.folder) == [run.name], "in ./runs"
    for line in ("dependency", "report", "adversarial --from"):
        assert completed(f"labeldep {line} ", sandbox.folder) == [run.name, "pretrain", "@newest"]
    assert completed("labeldep eval p", sandbox.folder) == ["pretrain"]
    assert completed("labeldep eval @", sandbox.folder) == ["@newest"]
    assert completed("labeldep eval c", sandbox.folder) == [], "there is no control and no critic"
    assert completed("labeldep eval t", elsewhere, runs) == [run.name]
    assert completed(f"labeldep eval --runs-dir {runs} t", elsewhere) == [run.name]
    assert completed("labeldep eval x", sandbox.folder) == []


# Small mends


def test_a_small_val_split_is_told_once(sandbox: Sandbox) -> None:
    result = train(sandbox, "adversarial", "--runs-dir", sandbox.folder / "other")
    lines = result.stderr.splitlines()
    small = [line for line in lines if re.match(r"val has only \d images", line)]
    assert len(small) == 1
    assert "--val-fraction (now 0.05)" in small[0]
    assert "pretraining first" in result.stderr
    assert len([line for line in lines if re.match(r"val = \d of \d+ rows .*, drawn by name", line)]) == 1


def ended_by(number: int, sandbox: Sandbox, group: bool) -> tuple[int, str]:
    """Exit code and stderr of a long training that is sent a signal once it has a checkpoint."""
    out = sandbox.folder / "long"
    words = ["pretrain", "--dataset", "t.npz", "--steps", "1000000", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "labeldep_cli", *words],
        cwd=sandbox.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (out / "last.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (os.killpg if group else os.kill)(process.pid, number)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_are_interruptions(number: signal.Signals, sandbox: Sandbox) -> None:
    code, told = ended_by(number, sandbox, group=number == signal.SIGHUP)
    assert code == 130
    assert "interrupted: the work so far is kept" in told
    assert "Traceback" not in told
    assert signal.getsignal(number) is signal.SIG_DFL, "commands run in this process left no handler"


@pytest.mark.parametrize(
    ("before", "name", "stays"),
    [
        ("import os; os.environ |= {'RANK': '0', 'WORLD_SIZE': '1'}", "SIGTERM", "SIG_DFL"),
        ("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)", "SIGHUP", "SIG_IGN"),
    ],
    ids=["torchrun's processes are killed at once", "nohup is obeyed"],
)
def test_signals_that_are_left_alone(before: str, name: str, stays: str) -> None:
    program = (
        f"{before}\n"
        "import signal; from labeldep_cli.cli.termination import as_interruption\n"
        f"with as_interruption(): print(signal.getsignal(signal.{name}) is signal.{stays})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"


def test_a_forked_worker_dies_of_sigterm_as_ever() -> None:
    program = (
        "import os, signal, time; from labeldep_cli.cli.termination import as_interruption\n"
        "with as_interruption():\n"
        "    ready, told = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child: os.write(told, b'!'); time.sleep(20); os._exit(0)\n"
        "    os.read(ready, 1); os.kill(child, signal.SIGTERM); print(os.waitpid(child, 0)[1])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(result.stdout) == signal.SIGTERM


def test_a_shell_can_be_taught_as_described() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    told = set(re.findall(r"--[a-z]+-completion", (ROOT / "docs" / "completion.md").read_text()))
    assert told == {"--install-completion", "--show-completion"}
    assert [flag for flag in told if flag not in shown] == []
