"""Several processes train as one would: torchrun's, over gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from safetensors import safe_open

from labeldep_cli.compute.distributed import World
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
FLOAT64 = str(Path(__file__).with_name("in_float64.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ready features (`rows.npz`) and images (`labels.csv`), both of three splits."""
    folder = tmp_path_factory.mktemp("worlds")
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 12)).astype(np.float32)
    y = (x[:, :4] + 0.5 * x[:, 1:5] > 0).astype(np.int8)
    split = np.array(["train"] * 36 + ["val"] * 14 + ["test"] * 10)  # of 36 in batches of 7, the last is one row
    np.savez(folder / "rows.npz", X=x, Y=y, label_names=np.array(["a", "b", "c", "d"]), split=split)
    lines = ["path,split,a,b,c"]
    for row in range(24):
        draw_image(folder / f"{row}.png", row)
        lines.append(f"{row}.png,{'train' if row < 15 else 'val'},{row % 2},{row // 2 % 2},{row % 3 // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words], env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def test_two_processes_compute_what_one_does(place: Path) -> None:
    for count, launch in ((1, (sys.executable,)), (2, TORCHRUN)):
        run(*launch, FLOAT64, place / "labels.csv", place / "rows.npz", place / f"of-{count}")
    for name in ("pretrain-False", "wgan-gp-False", "nce-False", "pretrain-True", "wgan-gp-True"):
        one, two = (place / f"of-{count}" / name for count in (1, 2))
        weights, others = tensors(one / LAST), tensors(two / LAST)
        assert weights.keys() == others.keys()
        for key, value in weights.items():
            assert value.dtype in (torch.float64, torch.float32, torch.int64)
            assert (others[key] - value).abs().max() <= 1e-9, (name, key)
        histories = [[json.loads(line) for line in (run / METRICS).read_text().splitlines()] for run in (one, two)]
        assert len(histories[0]) == len(histories[1]) > 1
        for mine, theirs in zip(*histories, strict=True):
            losses = [{k: v for k, v in record.items() if k not in ("val", "step")} for record in (mine, theirs)]
            assert losses[0] == pytest.approx(losses[1], abs=1e-9)
            assert mine["val"]["mAP"] == pytest.approx(theirs["val"]["mAP"], abs=1e-9)
        assert any(value.dtype == torch.float64 for value in weights.values())


def words(place: Path, out: Path, steps: int, *more: object) -> tuple[object, ...]:
    where = ("--runs-dir", place / "runs", "--out", out)
    small = ("--critic-width", 16, "--critic-projection", 8, "--batch-size", 8)
    return ("adversarial", "--dataset", place / "rows.npz", *where, *small, "--steps", steps, "--json", *more)


def test_the_first_gradients_in_single_precision(place: Path) -> None:
    labeldep = (sys.executable, "-m", "labeldep_cli")
    for count, launch in ((1, labeldep), (2, (*TORCHRUN, "-m", "labeldep_cli"))):
        run(*launch, *words(place, place / f"first-{count}", 1, "--critic-steps", 1))
    one, two = (tensors(place / f"first-{count}" / LAST) for count in (1, 2))
    # After one update Adam's mean of gradients is the gradient, but for its factor 1 - beta1.
    for network in ("optimizer_g", "optimizer_d"):
        names = [name for name in one if name.startswith(network) and name.endswith("exp_avg")]
        mine, theirs = (torch.cat([found[name].flatten() for name in names]) for found in (one, two))
        assert mine.norm() > 0 and (mine - theirs).norm() <= 1e-5 * mine.norm()


def kill_one(launcher: subprocess.Popen[str], run: Path) -> None:
    """SIGKILL one of torchrun's two processes, once the run has a checkpoint."""
    deadline = time.monotonic() + 120
    while not (run / LAST).exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="torchrun's processes are found through /proc")
def test_a_killed_process_costs_no_result(place: Path) -> None:
    launch = (*TORCHRUN, "--max-restarts", "1", "-m", "labeldep_cli")
    run(*launch, *words(place, place / "whole", 1000))
    for name, restarts in (("recovers", "1"), ("again", "0")):
        command = [str(word) for word in (*launch, *words(place, place / name, 1000))]
        command[command.index("--max-restarts") + 1] = restarts
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as launcher:
            kill_one(launcher, place / name)
            launcher.communicate(timeout=300)
        if restarts == "0":
            assert launcher.returncode != 0 and not (place / name / RESULT).exists()
            run(*command)
        else:
            assert launcher.returncode == 0
        for file in (LAST, BEST, METRICS, RESULT):
            assert (place / name / file).read_bytes() == (place / "whole" / file).read_bytes(), (name, file)


@pytest.mark.parametrize("n", [0, 1, 7, 8])
def test_shares_are_whole(n: int) -> None:
    for size in (1, 2, 3, 8):
        shares = [range(n)[World(rank, size).share(n)] for rank in range(size)]
        assert [k for share in shares for k in share] == list(range(n))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
