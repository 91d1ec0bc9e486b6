"""The rival heads through the whole chain, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from test_cli import LABELS, Place, make_table

from labeldep_cli.runs import checkpoint

QUICK = ("--steps", "3", "--hidden", "8")
SEES = ("--backbone", "scenesnet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("heads"))
    make_table(place.table.parent, rows=30)
    return place


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ready features: no images, no regions."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("ready") / "genes.npz"
    labels = rng.integers(0, 2, (80, 3)).astype(np.int8)
    np.savez(path, X=rng.normal(size=(80, 5)).astype(np.float32), Y=labels, label_names=np.array(LABELS))
    return path


@pytest.mark.parametrize("head", ["cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn"])
def test_a_rival_is_trained_scored_and_labels_images(place: Place, head: str) -> None:
    run = Path(place.json("pretrain", "--dataset", place.table, *SEES, "--head", head, *QUICK)["run"])
    assert run.name.startswith("pets-") and run.name.endswith(f"-scenesnet-{head}-pretrain")
    spatial = head in ("att-rnn", "rlsd", "ml-decoder")
    stores = {path.name.rpartition("-")[0] for path in (place.folder / "data" / "features").glob("scenesnet-*")}
    assert ("scenesnet-spatial" if spatial else "scenesnet") in stores
    facts = checkpoint.read_facts(run / "best.safetensors")
    assert (facts["head"], facts["hidden"], facts["feature_dim"]) == (head, 8, 128 if spatial else 256)

    scores = place.json("eval", run)
    assert scores["n_images"] == 6
    image = draw_image(place.folder / "one.png", 3)
    told = json.loads(place.run("predict", image, "--run", run, "--all", "--json").stdout)
    assert list(told["probabilities"]) == list(LABELS)
    in_set = {label for label, p in told["probabilities"].items() if p > 0.5}
    assert {item["label"] for item in told["labels"]} == in_set


@pytest.mark.parametrize("head", ["rlsd", "gcn"])
def test_the_critic_attaches_to_a_rival(place: Place, head: str) -> None:
    words = ("adversarial", "--dataset", place.table, *SEES, "--head", head, "--critic-layers", "1", *QUICK)
    first = place.json(*words)
    assert first["run"].endswith(f"-scenesnet-{head}-adversarial")
    config = json.loads((Path(first["run"]) / "config.json").read_text())
    assert config["start"]["run"].endswith(f"-{head}-pretrain") and config["settings"]["head"] == head
    frozen = place.json(*words, "--critic", "nce", "--freeze-generator")
    decided = place.json("eval", frozen["run"], "--decision", "rerank")["decision"]
    assert decided["rule"] == "rerank"


def test_a_head_that_picks_labels_in_turn_takes_only_a_critic_beside_it(place: Place) -> None:
    words = ("adversarial", "--dataset", place.table, *SEES, "--head", "cnn-rnn", "--critic-layers", "1", *QUICK)
    refused = place.run(*words)
    assert refused.exit_code == 1 and "no gradient of a critic flows" in refused.stderr
    assert place.json(*words, "--critic", "none")["run"].endswith("-cnn-rnn-control")
    beside = place.json(*words, "--critic", "nce", "--freeze-generator")
    assert place.json("eval", beside["run"], "--decision", "rerank")["decision"]["rule"] == "rerank"
    loss = place.run("pretrain", "--dataset", place.table, *SEES, "--head", "cnn-rnn", "--loss", "asl", *QUICK)
    assert loss.exit_code == 1 and "trained on its own loss, not on --loss asl" in loss.stderr


def test_a_start_with_another_head_is_refused(place: Place) -> None:
    place.json("pretrain", "--dataset", place.table, *SEES, "--steps", "2", "--out", place.folder / "plain")
    words = ("adversarial", "--dataset", place.table, *SEES, "--from", place.folder / "plain", "--head", "gcn")
    result = place.run(*words)
    assert result.exit_code == 1 and "has --head linear, asked for is gcn" in result.stderr


def test_full_mode_fine_tunes_the_backbone_under_a_spatial_head(place: Place) -> None:
    words = ("adversarial", "--dataset", place.table, *SEES, "--head", "rlsd", "--full", "--views", "1")
    run = place.json(*words, "--critic-layers", "1", "--batch-size", "8", *QUICK)["run"]
    assert run.endswith("-scenesnet-rlsd-full-adversarial")
    assert place.json("eval", run)["n_images"] == 6
    told = json.loads(place.run("predict", place.table.parent / "img" / "0.png", "--run", run, "--json").stdout)
    assert told["path"].endswith("0.png")


def test_ready_features_have_no_regions(place: Place, features: Path) -> None:
    refused = place.run("pretrain", "--dataset", features, "--head", "rlsd", *QUICK)
    assert refused.exit_code == 1 and "which have no regions for --head rlsd" in refused.stderr
    assert "linear, cnn-rnn, gcn" in refused.stderr
    assert place.json("pretrain", "--dataset", features, "--head", "gcn", *QUICK)["run"].endswith("-gcn-pretrain")


def test_the_critic_may_be_warmed_up(place: Place, features: Path) -> None:
    """The warm-up's updates come before the first one of G, on draws of their own."""
    place.json("pretrain", "--dataset", features, *QUICK)
    words = ("adversarial", "--dataset", features, "--steps", "1", "--critic-layers", "1", "--lr", "0")
    runs = {}
    for warm in (0, 4):
        runs[warm] = Path(place.json(*words, "--critic-warmup", warm, "--out", place.folder / f"warm-{warm}")["run"])
    tensors = {warm: checkpoint.load(run / "last.safetensors")[0] for warm, run in runs.items()}
    updates = {warm: int(state["optimizer_d.0.step"]) for warm, state in tensors.items()}
    assert updates == {0: 3, 4: 7}


@pytest.mark.parametrize("select", ["mAP", "OF1", "exact_match"])
def test_the_best_evaluation_is_chosen_by_the_score_asked_for(place: Place, features: Path, select: str) -> None:
    words = ("pretrain", "--dataset", features, "--epochs", "400", "--batch-size", "8", "--lr", "0.01")
    found = place.json(*words, "--val-fraction", "0.3", "--select", select, "--out", place.folder / f"select-{select}")
    lines = (Path(found["run"]) / "metrics.jsonl").read_text().splitlines()
    scores = {record["step"]: record["val"][select] for record in map(json.loads, lines) if record["step"]}
    assert len(set(scores.values())) > 1, "the evaluations differ"
    best = max(scores.values())
    assert found["best_step"] == min(step for step, score in scores.items() if score == best)
