"""The commands as a user runs them, in both modes; the files they leave are read, not only their exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sandbox import BACKBONE, LABELS, Sandbox, make_table, only
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.runs import checkpoint


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace where `adversarial` has been run in head mode: it extracts and pretrains by itself."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    make_table(sandbox.table.parent)
    result = sandbox.run("adversarial", "--dataset", sandbox.table, *BACKBONE, "--steps", 4, "--critic-layers", 2)
    assert result.exit_code == 0, result.stderr
    assert "extracting them first" in result.stderr
    assert "pretraining first" in result.stderr
    return sandbox


def test_what_a_run_leaves(sandbox: Sandbox) -> None:
    run = only(sandbox.folder / "runs", "pets-*-squeezenet1_1-adversarial")
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "config.json",
        "last.safetensors",
        "best.safetensors",
        "metrics.jsonl",
        "result.json",
        "rows.safetensors",
    }
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["alpha"] == 10
    assert config["settings"]["critic_layers"] == 2
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 4]
    assert {"critic", "penalty", "wasserstein", "generator", "logistic"} <= records[1].keys()
    with safe_open(run / "best.safetensors", "pt") as file:
        names = set(file.keys())
        assert list(file.metadata()) == ["labeldep"]
    assert {name for name in names if name.startswith("generator.")} == {
        "generator.head.0.weight",
        "generator.head.0.bias",
    }, "a cached-mode checkpoint holds no backbone weights"
    for name in ("metrics.jsonl", "result.json", "best.safetensors", "last.safetensors"):
        assert str(sandbox.folder).encode() not in (run / name).read_bytes(), "only config.json holds a path"


def test_extract_says_what_is_there(sandbox: Sandbox) -> None:
    found = sandbox.json("extract", "--dataset", sandbox.table, *BACKBONE)
    assert [(file["split"], file["rows"], file["views"], file["width"]) for file in found["files"]] == [
        ("train", 36, 1, 512),
        ("val", 12, 1, 512),
        ("test", 12, 1, 512),
    ]
    assert found["skipped"] == []
    assert all(Path(file["path"]).exists() for file in found["files"])
    assert found["images_per_second"] is None, "nothing was computed"


def test_a_finished_run_prints_its_result_again(sandbox: Sandbox) -> None:
    run = only(sandbox.folder / "runs", "pets-*-pretrain")
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    found = sandbox.json("pretrain", "--dataset", sandbox.table, *BACKBONE)
    assert found["run"] == str(run)
    assert found["steps"] == 400
    assert found["val"]["n_images"] == 12
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_eval_keys_and_protocol(sandbox: Sandbox) -> None:
    found = sandbox.json("eval", "--split", "val")
    contract = (
        "dataset split n_images n_labels decision CP CR CF1 OP OR OF1 macro_f1 mAP exact_match labels_per_image "
        "true_labels_per_image skipped_labels per_label confidence skipped provenance"
    )
    assert set(contract.split()) <= found.keys()
    assert found["decision"] == {"rule": "threshold", "threshold": 0.5, "non_empty": False, "source": "default"}
    assert found["n_images"] == 12
    assert [row["label"] for row in found["per_label"]] == list(LABELS)
    assert {"ids_sha256", "labels_sha256", "weights_sha256", "ap", "seed", "versions"} <= found["provenance"].keys()
    result = json.loads((Path(found["run"]) / "result.json").read_text())
    assert result["val"]["mAP"] == found["mAP"], "eval on val agrees with the training's own closing evaluation"


def test_eval_says_what_confidences_are_worth(sandbox: Sandbox) -> None:
    """Val has 12 rows, too few for a temperature. The independent sets of p > 0.5 are those of the default decision."""
    found = sandbox.json("eval", "--split", "val")["confidence"]
    assert set(found) == {
        *("rule", "temperature", "calibrated", "AURC", "AURC_excess", "coverage", "ECE", "ECE_by_chance"),
        "independent",
    }
    assert (found["rule"], found["temperature"], found["calibrated"]) == ("threshold", 1.0, False)
    assert set(found["coverage"]) == {"90", "95", "99"}
    assert found["independent"] == {name: value for name, value in found.items() if name != "independent"}
    tuned = sandbox.json("eval", "--split", "val", "--threshold", "tuned-per-label", "--non-empty")["confidence"]
    assert tuned["independent"] == found["independent"]
    told = sandbox.run("eval", "--split", "val").stdout
    assert f"confidence of a set (not calibrated): AURC {found['AURC']:.2f}" in told


def test_a_run_from_before_confidences_has_the_same_scores(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(only(sandbox.folder / "runs", "pets-*-adversarial"), folder)
    tensors, facts = checkpoint.load(folder / "best.safetensors")
    assert facts.pop("confidence")["threshold"]["why"] == "val has only 12 rows"
    checkpoint.save(folder / "best.safetensors", tensors, facts)
    new, old = sandbox.json("eval", "adversarial"), sandbox.json("eval", folder)
    for found in (new, old):
        found.pop("run")
        found["provenance"].pop("checkpoint_sha256")
    assert new == old
    image = sandbox.table.parent / "img" / "0.png"
    result = sandbox.run("predict", image, "--run", folder, "--auto-accept", "90%")
    assert result.exit_code == 1
    assert "has no confidences of val" in result.stderr


def test_eval_takes_the_newest_run_and_names(sandbox: Sandbox) -> None:
    newest = sandbox.json("eval")["run"]
    assert newest.endswith("-adversarial")
    assert sandbox.json("eval", Path(newest).name)["mAP"] == sandbox.json("eval", newest)["mAP"]


@pytest.mark.parametrize(
    ("flags", "per_image"),
    [(["--top-k", "2"], 2.0), (["--threshold", "0"], 3.0), (["--threshold", "1"], 0.0)],
)
def test_eval_decisions(sandbox: Sandbox, flags: list[str], per_image: float) -> None:
    assert sandbox.json("eval", *flags)["labels_per_image"] == per_image


def test_non_empty_and_tuned(sandbox: Sandbox) -> None:
    assert sandbox.json("eval", "--threshold", "1", "--non-empty")["labels_per_image"] == 1.0
    tuned = sandbox.json("eval", "--split", "val", "--threshold", "tuned")
    assert tuned["decision"]["source"] == "tuned on val"
    assert tuned["OF1"] >= sandbox.json("eval", "--split", "val")["OF1"]
    assert len(sandbox.json("eval", "--threshold", "tuned-per-label")["decision"]["threshold"]) == len(LABELS)


def test_tables_for_people(sandbox: Sandbox) -> None:
    result = sandbox.run("eval", "--per-label")
    assert result.exit_code == 0
    assert "p > 0.5" in result.stdout
    assert "protocol: test rows" in result.stdout
    assert all(label in result.stdout for label in LABELS)


def test_predict(sandbox: Sandbox) -> None:
    image = sandbox.table.parent / "img" / "0.png"
    result = sandbox.run("predict", image, sandbox.table.parent / "img" / "1*.png", "--json", "--all", "--top-k", "1")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 12, "0.png; 1.png and 10.png to 19.png"
    assert records[0]["path"] == str(image)
    assert list(records[0]["probabilities"]) == list(LABELS)
    (best,) = records[0]["labels"]
    assert best["probability"] == max(records[0]["probabilities"].values())
    assert sandbox.run("predict", image).stdout.startswith(f"{image}: ")


def test_predict_agrees_with_eval(sandbox: Sandbox) -> None:
    """The cache is fp16 and predict is not: the same sets up to that rounding."""
    rows = [line.split(",") for line in sandbox.table.read_text().splitlines()[1:]]
    test = [row for row in rows if row[1] == "test"]
    result = sandbox.run("predict", *(sandbox.table.parent / row[0] for row in test), "--json")
    sets = [{label["label"] for label in json.loads(line)["labels"]} for line in result.stdout.splitlines()]
    truth = [{name for name, value in zip(LABELS, row[2:], strict=True) if value == "1"} for row in test]
    exact = 100 * np.mean([found == true for found, true in zip(sets, truth, strict=True)])
    assert exact == pytest.approx(sandbox.json("eval")["exact_match"], abs=100 / 12 + 1e-6)


def test_predict_reads_stdin(sandbox: Sandbox) -> None:
    image = sandbox.table.parent / "img" / "3.png"
    where = {"LABELDEP_RUNS": str(sandbox.folder / "runs")}
    result = CliRunner().invoke(app, ["predict", "-", "--json"], env=where, input=f"{image}\n\n")
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == [str(image)]


def test_control_stands_beside(sandbox: Sandbox) -> None:
    found = sandbox.json("adversarial", "--dataset", sandbox.table, *BACKBONE, "--critic", "none", "--steps", 4)
    assert found["run"].endswith("-control")
    with safe_open(Path(found["run"]) / "best.safetensors", "pt") as file:
        assert not any(name.startswith("critic.") for name in file.keys())  # noqa: SIM118 - not a mapping


def test_config_of_a_run_is_taken_over(sandbox: Sandbox) -> None:
    control = sandbox.json("adversarial", "--dataset", sandbox.table, *BACKBONE, "--critic", "none", "--steps", 4)[
        "run"
    ]
    again = sandbox.json("adversarial", "--config", f"{control}/config.json")
    assert again["run"] == control
    other = sandbox.folder / "elsewhere"
    found = sandbox.json("adversarial", "--config", f"{control}/config.json", "--steps", 2, "--out", other)
    assert found["run"] == str(other)
    assert found["steps"] == 2


def test_all_views_are_cached_and_drawn_from(sandbox: Sandbox, tmp_path: Path) -> None:
    where = ("--features-dir", tmp_path / "features", "--dataset", sandbox.table, "--backbone", "scenesnet")
    files = sandbox.json("extract", *where, "--views", 21)["files"]
    assert [file["views"] for file in files] == [21, 1, 1]
    found = sandbox.json("pretrain", *where, "--steps", 2, "--out", tmp_path / "run")
    assert json.loads((Path(found["run"]) / "config.json").read_text())["views"] == 21
    elsewhere = ("--features-dir", tmp_path / "one-view", "--dataset", sandbox.table, "--backbone", "scenesnet")
    sandbox.json("extract", *elsewhere)
    wanted = sandbox.run("pretrain", *elsewhere, "--views", 21, "--steps", 2, "--out", tmp_path / "other", "--json")
    assert wanted.exit_code == 0 and "features of train are missing: extracting them first" in wanted.stderr
    assert json.loads((tmp_path / "other" / "config.json").read_text())["views"] == 21


def test_full_mode(sandbox: Sandbox) -> None:
    words = ("--dataset", sandbox.table, *BACKBONE, "--full", "--steps", 2, "--batch-size", 4, "--workers", 0)
    result = sandbox.run("pretrain", *words, "--json")
    assert result.exit_code == 0, result.stderr
    assert "the head starts from" in result.stderr
    pretrained = json.loads(result.stdout)["run"]
    assert pretrained.endswith("-full-pretrain")
    adversarial = sandbox.json("adversarial", *words, "--critic-layers", 1, "--critic-steps", 1)["run"]
    with safe_open(Path(adversarial) / "best.safetensors", "pt") as file:
        assert any(name.startswith("generator.encoder.backbone.") for name in file.keys())  # noqa: SIM118
    scores = sandbox.json("eval", adversarial)
    assert scores["n_images"] == 12
    line = sandbox.run(
        "predict", sandbox.table.parent / "img" / "0.png", "--run", adversarial, "--json", "--all"
    ).stdout
    assert len(json.loads(line)["probabilities"]) == 3


def test_features_of_any_modality(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    y = (x[:, :3] > 0).astype(np.int8)
    np.savez(tmp_path / "text.npz", X=x, Y=y, label_names=np.array(LABELS))
    words = ("--dataset", tmp_path / "text.npz", "--hidden", 16, "--lr", 0.01)
    run = sandbox.json("pretrain", *words)["run"]
    assert Path(run).name.startswith("text-")
    assert Path(run).name.endswith("-features-pretrain")
    scores = sandbox.json("eval")
    assert scores["n_images"] == 50, "a quarter was drawn as the test split"
    assert scores["mAP"] > 95, "three labels that are three signs"
    refused = sandbox.run("predict", "a.jpg")
    assert refused.exit_code == 1
    assert "was trained on ready features and cannot label images" in refused.stderr


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with 40 rows of ready features, and a pretrained run."""
    sandbox = Sandbox(tmp_path_factory.mktemp("ready"))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    np.savez(sandbox.folder / "x.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(LABELS))
    sandbox.json("pretrain", "--dataset", sandbox.folder / "x.npz", "--steps", 1)
    return sandbox


@pytest.mark.parametrize("seed", [0, 7])
def test_the_seed_draws_the_first_weights_of_both_networks(ready: Sandbox, seed: int) -> None:
    """Trained at the rate 0, they stay as they were drawn; the head's bias has the labels' odds."""
    words = ("--dataset", ready.folder / "x.npz", "--lr", 0, "--steps", 1, "--seed", seed)
    pretrained = Path(str(ready.json("pretrain", *words, "--out", ready.folder / f"g-{seed}")["run"]))
    tensors, _ = checkpoint.load(pretrained / "best.safetensors")
    head = seeded_head("linear", 5, 3, 0, seed).state_dict()
    assert tensors.keys() == {f"generator.head.{name}" for name in (*head, "feature_mean", "feature_scale")}
    assert tensors["generator.head.0.weight"].tolist() == head["0.weight"].tolist()
    assert tensors["generator.head.0.bias"].tolist() != head["0.bias"].tolist()
    small = ("--critic-layers", 1, "--critic-width", 4, "--critic-projection", 2, "--critic-lr", 0)
    run = Path(str(ready.json("adversarial", *words, *small, "--out", ready.folder / f"d-{seed}")["run"]))
    tensors, facts = checkpoint.load(run / "best.safetensors")
    critic = seeded_critic(3, 5, facts["critic"], seed).state_dict()
    for name, value in critic.items():
        assert tensors[f"critic.{name}"].tolist() == value.tolist()


def test_the_control_s_loss_has_the_weight_that_it_has_beside_a_critic(ready: Sandbox) -> None:
    """Five times the alpha is five times the gradient."""
    words = ("adversarial", "--dataset", ready.folder / "x.npz", "--critic", "none", "--steps", 1)
    norms = []
    for alpha in (2, 10):
        run = ready.json(*words, "--alpha", alpha, "--out", ready.folder / f"control-{alpha}")["run"]
        record = json.loads((Path(str(run)) / "metrics.jsonl").read_text().splitlines()[-1])
        norms.append(record["generator_gradient"])
    assert norms[1] / norms[0] == pytest.approx(5, rel=1e-4)


def test_patience_ends_a_run_that_learns_nothing(ready: Sandbox) -> None:
    """At the rate 0 no evaluation is better than the first, at step 50; two more are waited for."""
    words = ("pretrain", "--dataset", ready.folder / "x.npz", "--lr", 0, "--steps", 400)
    found = ready.json(*words, "--patience", 2, "--out", ready.folder / "patient")
    assert (found["stopped_early"], found["best_step"], found["steps"]) == (True, 50, 150)


def test_a_start_on_another_draw_is_refused(tmp_path: Path) -> None:
    """It may have been trained on what is the test split here."""
    sandbox = Sandbox(tmp_path)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    np.savez(tmp_path / "t.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(LABELS))
    words = ("--dataset", tmp_path / "t.npz", "--steps", 2)
    sandbox.json("pretrain", *words)
    for other in (("--split-seed", 1), ("--val-fraction", 0.2), ("--test-fraction", 0.5)):
        result = sandbox.run("adversarial", *words, *other)
        assert result.exit_code == 1
        assert "was trained on another draw" in result.stderr
        assert "--split-seed" in result.stderr
    assert sandbox.run("adversarial", *words, "--critic-layers", 1).exit_code == 0


def test_config_of_another_command_brings_no_learning_rate(sandbox: Sandbox, tmp_path: Path) -> None:
    pretrained = only(sandbox.folder / "runs", "pets-*-squeezenet1_1-pretrain")
    out = ("--out", tmp_path / "run", "--critic", "none", "--steps", 2)
    sandbox.json("adversarial", "--config", pretrained / "config.json", *out)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["lr"] == 1e-4


def test_a_run_keeps_its_views_when_the_cache_gets_more(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, rows=30)
    words = ("--dataset", sandbox.table, *BACKBONE)
    sandbox.json("pretrain", *words, "--steps", 2)
    sandbox.json("extract", *words, "--views", 21, "--fresh", "--split", "train")
    again = sandbox.run("pretrain", *words, "--steps", 2)
    assert again.exit_code == 0, again.stderr
    assert "is finished already" in again.stderr


def test_a_head_that_does_not_fit_is_left(tmp_path: Path) -> None:
    import torch
    import torchvision

    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, rows=30)
    words = ("--dataset", sandbox.table, "--backbone", "squeezenet1_1", "--steps", 2)
    sandbox.json("pretrain", *words, "--weights", "none")
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    full = ("--weights", tmp_path / "other.pth", "--full", "--batch-size", 4, "--workers", 0)
    features = ("--features-dir", tmp_path / "others")
    result = sandbox.run("pretrain", *words, *full, *features)
    assert result.exit_code == 0, result.stderr
    assert "the head starts from scratch" in result.stderr


def test_no_critic_and_no_generator_is_no_training(sandbox: Sandbox) -> None:
    result = sandbox.run("adversarial", "--dataset", sandbox.table, *BACKBONE, "--critic", "none", "--freeze-generator")
    assert result.exit_code == 2
    assert "--freeze-generator" in result.stderr
    assert "generator" in result.stderr and "none" in result.stderr


def test_data_counts(sandbox: Sandbox) -> None:
    found = sandbox.json("data", sandbox.table)
    assert {name: split["images"] for name, split in found["splits"].items()} == {"train": 36, "val": 12, "test": 12}
    assert found["missing"] == found["unreadable"] == found["duplicates"] == []
    assert "train 36, val 12, test 12 images; 3 labels" in sandbox.run("data", sandbox.table).stdout


def test_coco_counts_as_printed(shared_data: Path) -> None:
    result = CliRunner().invoke(app, ["data", "coco", "--data-dir", str(shared_data)])
    assert result.exit_code == 0, result.stderr
    assert "train 60 (57 + 3 held out), test 99" in result.stdout
    assert "80 labels" in result.stdout


@pytest.mark.parametrize(
    "command",
    [[], ["extract"], ["pretrain"], ["adversarial"], ["eval"], ["predict"], ["demo"], ["tune"], ["reproduce"]],
)
def test_help_imports_neither_torch_nor_numpy(command: list[str]) -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from labeldep_cli.cli import app; "
        f"result = CliRunner().invoke(app, {[*command, '--help']!r}); assert result.exit_code == 0; "
        "print([name for name in ('torch', 'numpy', 'h5py') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_version() -> None:
    from labeldep_cli import __version__

    assert CliRunner().invoke(app, ["--version"]).stdout == f"labeldep {__version__}\n"


def test_a_corrected_test_label_makes_no_other_run_and_a_corrected_train_label_does(tmp_path: Path) -> None:
    """Weights depend on train, the evaluation that is kept on val; nothing of a run depends on test."""
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent)
    words = ("pretrain", "--dataset", sandbox.table, *BACKBONE, "--steps", 2)
    sandbox.json(*words)
    lines = sandbox.table.read_text().splitlines()

    def flip(row: int) -> None:
        *first, last = lines[row].split(",")
        lines[row] = ",".join([*first, "1" if last == "0" else "0"])
        sandbox.table.write_text("\n".join(lines) + "\n")

    flip(-1)
    result = sandbox.run(*words)
    assert result.exit_code == 0 and "is finished already" in result.stderr
    flip(1)
    refused = sandbox.run(*words)
    assert refused.exit_code == 1 and "the data have changed" in refused.stderr
