"""The rival heads through the whole chain, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from sandbox import LABELS, Sandbox, make_table

from labeldep_cli.runs import checkpoint

QUICK = ("--steps", "3", "--hidden", "8")
SEES = ("--backbone", "scenesnet")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("heads"))
    make_table(sandbox.table.parent, rows=30)
    return sandbox


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ready features: no images, no regions."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("ready") / "genes.npz"
    labels = rng.integers(0, 2, (80, 3)).astype(np.int8)
    np.savez(path, X=rng.normal(size=(80, 5)).astype(np.float32), Y=labels, label_names=np.array(LABELS))
    return path


@pytest.mark.parametrize("head", ["cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn", "powerset", "chain"])
def test_a_rival_is_trained_scored_and_labels_images(sandbox: Sandbox, head: str) -> None:
    run = Path(sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, "--head", head, *QUICK)["run"])
    assert run.name.startswith("pets-") and run.name.endswith(f"-scenesnet-{head}-pretrain")
    spatial = head in ("att-rnn", "rlsd", "ml-decoder")
    stores = {path.name.rpartition("-")[0] for path in (sandbox.folder / "data" / "features").glob("scenesnet-*")}
    assert ("scenesnet-spatial" if spatial else "scenesnet") in stores
    facts = checkpoint.read_facts(run / "best.safetensors")
    assert (facts["head"], facts["hidden"], facts["feature_dim"]) == (head, 8, 128 if spatial else 256)

    scores = sandbox.json("eval", run)
    assert scores["n_images"] == 6
    image = draw_image(sandbox.folder / "one.png", 3)
    told = json.loads(sandbox.run("predict", image, "--run", run, "--all", "--json").stdout)
    assert list(told["probabilities"]) == list(LABELS)
    in_set = {label for label, p in told["probabilities"].items() if p > 0.5}
    assert {item["label"] for item in told["labels"]} == in_set


@pytest.mark.parametrize("head", ["rlsd", "gcn"])
def test_the_critic_attaches_to_a_rival(sandbox: Sandbox, head: str) -> None:
    words = ("adversarial", "--dataset", sandbox.table, *SEES, "--head", head, "--critic-layers", "1", *QUICK)
    first = sandbox.json(*words)
    assert first["run"].endswith(f"-scenesnet-{head}-adversarial")
    config = json.loads((Path(first["run"]) / "config.json").read_text())
    assert config["start"]["run"].endswith(f"-{head}-pretrain") and config["settings"]["head"] == head
    frozen = sandbox.json(*words, "--critic", "nce", "--freeze-generator")
    decided = sandbox.json("eval", frozen["run"], "--decision", "rerank")["decision"]
    assert decided["rule"] == "rerank"


def test_a_head_that_picks_labels_in_turn_takes_only_a_critic_beside_it(sandbox: Sandbox) -> None:
    words = ("adversarial", "--dataset", sandbox.table, *SEES, "--head", "cnn-rnn", "--critic-layers", "1", *QUICK)
    refused = sandbox.run(*words)
    assert refused.exit_code == 1 and "no gradient of a critic flows" in refused.stderr
    assert sandbox.json(*words, "--critic", "none")["run"].endswith("-cnn-rnn-control")
    beside = sandbox.json(*words, "--critic", "nce", "--freeze-generator")
    assert sandbox.json("eval", beside["run"], "--decision", "rerank")["decision"]["rule"] == "rerank"
    loss = sandbox.run("pretrain", "--dataset", sandbox.table, *SEES, "--head", "cnn-rnn", "--loss", "asl", *QUICK)
    assert loss.exit_code == 1 and "trained on its own loss, not on --loss asl" in loss.stderr


@pytest.mark.parametrize("head", ["powerset", "chain"])
def test_a_head_over_whole_sets_decides_alone_and_with_a_critic(sandbox: Sandbox, head: str, tmp_path: Path) -> None:
    common = ("--dataset", sandbox.table, *SEES, "--head", head, "--steps", "60", "--out")
    run = sandbox.json("pretrain", *common, tmp_path / "joint")["run"]
    assert f'"{"sets" if head == "powerset" else "chain"}"' in (Path(run) / "metrics.jsonl").read_text()
    own = {"rule": "rerank", "source": "own posterior of the head"}
    alone = sandbox.json("eval", run, "--decision", "rerank")
    assert alone["decision"] == own and alone["n_images"] == 6
    assert sandbox.json("eval", run, "--decision", "expected-f1")["decision"] == {**own, "rule": "expected-f1"}
    assert "own posterior of the head, expected F1" in sandbox.run("eval", run, "--decision", "expected-f1").stdout
    assert sandbox.json("dependency", run, "--decision", "rerank")["decision"] == own
    weighed = sandbox.run("eval", run, "--decision", "rerank", "--beta", "1")
    assert weighed.exit_code == 1 and "--beta weighs the critic, which" in weighed.stderr

    images = sorted((sandbox.table.parent / "img").glob("*.png"), key=lambda path: int(path.stem))
    told = sandbox.run("predict", *images, "--run", run, "--decision", "rerank", "--json").stdout.splitlines()
    predicted = [len(json.loads(line)["labels"]) for line in told]
    assert len(predicted) == 30

    words = ("adversarial", *common[:-1], "--from", run, "--critic-layers", "1")
    for flags, message in (
        ((), "which is a distribution over whole sets: no gradient of a critic flows"),
        (("--freeze-generator",), "the critic wgan-gp compares soft sets"),
    ):
        refused = sandbox.run(*words, *flags)
        assert refused.exit_code == 1 and message in refused.stderr
        assert "--critic nce --freeze-generator" in refused.stderr
    beside = sandbox.json(*words, "--critic", "nce", "--freeze-generator", "--out", tmp_path / "critic")["run"]
    with_critic = sandbox.json("eval", beside, "--decision", "rerank", "--beta", "0")
    assert with_critic["decision"] == {"rule": "rerank", "beta": 0, "source": "given"}
    assert with_critic["exact_match"] == alone["exact_match"], "the candidates and p_G are the head's"
    assert with_critic["labels_per_image"] == alone["labels_per_image"]
    assert "own sets" in sandbox.json("compare", beside, run)["differences"][0]["sets"]
    sandbox.run("report", run, beside, "--out", tmp_path / "report.html")
    assert "own posterior of the head" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_export_says_that_its_probabilities_are_marginals(sandbox: Sandbox, tmp_path: Path) -> None:
    run = sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, "--head", "powerset", *QUICK)["run"]
    told = sandbox.json("export", run, "--format", "torch", "--out", tmp_path / "sets.pt2")
    assert told["head"] == "powerset" and told["probabilities"].startswith("marginals")


def test_sets_of_rows_with_unknown_labels(sandbox: Sandbox, tmp_path: Path) -> None:
    """Every row has an unknown label: the sets come from what is known, and training goes on."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (80, 3)).astype(np.int8)
    labels[np.arange(80), np.arange(80) % 3] = -1
    x = rng.normal(size=(80, 5)).astype(np.float32)
    np.savez(tmp_path / "gaps.npz", X=x, Y=labels, label_names=np.array(LABELS))
    for head in ("powerset", "chain"):
        run = sandbox.json(
            "pretrain", "--dataset", tmp_path / "gaps.npz", "--head", head, *QUICK, "--out", tmp_path / head
        )
        assert sandbox.json("eval", run["run"], "--decision", "rerank")["n_images"] > 10


def test_a_start_with_another_head_is_refused(sandbox: Sandbox) -> None:
    sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, "--steps", "2", "--out", sandbox.folder / "plain")
    words = ("adversarial", "--dataset", sandbox.table, *SEES, "--from", sandbox.folder / "plain", "--head", "gcn")
    result = sandbox.run(*words)
    assert result.exit_code == 1 and "has --head linear, but --head gcn is requested" in result.stderr


def test_full_mode_fine_tunes_the_backbone_under_a_spatial_head(sandbox: Sandbox) -> None:
    words = ("adversarial", "--dataset", sandbox.table, *SEES, "--head", "rlsd", "--full", "--views", "1")
    run = sandbox.json(*words, "--critic-layers", "1", "--batch-size", "8", *QUICK)["run"]
    assert run.endswith("-scenesnet-rlsd-full-adversarial")
    assert sandbox.json("eval", run)["n_images"] == 6
    told = json.loads(sandbox.run("predict", sandbox.table.parent / "img" / "0.png", "--run", run, "--json").stdout)
    assert told["path"].endswith("0.png")


def test_ready_features_have_no_regions(sandbox: Sandbox, features: Path) -> None:
    refused = sandbox.run("pretrain", "--dataset", features, "--head", "rlsd", *QUICK)
    assert refused.exit_code == 1 and "which have no regions for --head rlsd" in refused.stderr
    assert "linear, cnn-rnn, gcn, powerset, chain" in refused.stderr
    assert sandbox.json("pretrain", "--dataset", features, "--head", "gcn", *QUICK)["run"].endswith("-gcn-pretrain")


def test_the_critic_may_be_warmed_up(sandbox: Sandbox, features: Path) -> None:
    """The warm-up's updates come before the first one of G, on draws of their own."""
    sandbox.json("pretrain", "--dataset", features, *QUICK)
    words = ("adversarial", "--dataset", features, "--steps", "1", "--critic-layers", "1", "--lr", "0")
    runs = {}
    for warm in (0, 4):
        runs[warm] = Path(
            sandbox.json(*words, "--critic-warmup", warm, "--out", sandbox.folder / f"warm-{warm}")["run"]
        )
    tensors = {warm: checkpoint.load(run / "last.safetensors")[0] for warm, run in runs.items()}
    updates = {warm: int(state["optimizer_d.0.step"]) for warm, state in tensors.items()}
    assert updates == {0: 3, 4: 7}


def test_members_are_stored_and_decide_together(sandbox: Sandbox, features: Path) -> None:
    words = ("adversarial", "--dataset", features, "--critic", "nce", "--freeze-generator", "--members", "2")
    run = sandbox.json(*words, "--steps", "4", "--out", sandbox.folder / "members")["run"]
    assert checkpoint.read_facts(Path(run) / "best.safetensors")["critic"]["members"] == 2
    assert sandbox.json("eval", run, "--decision", "rerank")["decision"]["rule"] == "rerank"
    row = sandbox.json("eval", run, "--decision", "expected-f1")
    assert row["decision"]["rule"] == "expected-f1"


@pytest.mark.parametrize("select", ["mAP", "OF1", "exact_match"])
def test_the_best_evaluation_is_chosen_by_the_score_asked_for(sandbox: Sandbox, features: Path, select: str) -> None:
    words = ("pretrain", "--dataset", features, "--epochs", "400", "--batch-size", "8", "--lr", "0.01")
    found = sandbox.json(
        *words, "--val-fraction", "0.3", "--select", select, "--out", sandbox.folder / f"select-{select}"
    )
    lines = (Path(found["run"]) / "metrics.jsonl").read_text().splitlines()
    scores = {record["step"]: record["val"][select] for record in map(json.loads, lines) if record["step"]}
    assert len(set(scores.values())) > 1, "the evaluations differ"
    best = max(scores.values())
    assert found["best_step"] == min(step for step, score in scores.items() if score == best)
