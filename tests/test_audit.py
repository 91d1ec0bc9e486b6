"""`labeldep audit`: what is suspicious by hand, planted mistakes that are found, table and gallery as they are read."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sandbox import BACKBONE, LABELS, Sandbox, make_table

from labeldep_cli.cli import audit as audit_command
from labeldep_cli.cli import next_command
from labeldep_cli.config import AuditConfig, Machine, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.corrections import Place, content_of, label_set
from labeldep_cli.datasets.decision_file import append
from labeldep_cli.datasets.decisions import Decision, now
from labeldep_cli.evaluation.audit import EvidenceWeights, fit_weights, most_suspicious, suspicion
from labeldep_cli.evaluation.mistakes import Estimate
from labeldep_cli.evaluation.suspects import Card, Suspect
from labeldep_cli.experiments import cross_fitting as crossfit
from labeldep_cli.experiments.audit_cards import Evidence
from labeldep_cli.experiments.audit_record import AuditRecord, Contradiction, read_audit
from labeldep_cli.experiments.cross_fitting import HeldOutScores
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.pipelines.audit import Audit
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.names import is_run

QUICK = ("--steps", 30, "--folds", 2, "--repeats", 1)
PLANTED = ("--steps", 100, "--folds", 2, "--repeats", 1)


def test_suspicion_by_hand():
    logits, evidence = np.array([[2.0, -1.0, 3.0]], np.float32), np.array([[-4.0, 1.0, 5.0]], np.float32)
    log_odds = EvidenceWeights(prior=0.5, critic=2.0, offset=1.0).log_odds(logits, evidence)
    assert log_odds.tolist() == [[-6.0, 2.5, 12.5]], "0.5 x 2 + 2 x -4 + 1; 0.5 x -1 + 2 x 1 + 1; 0.5 x 3 + 2 x 5 + 1"
    scores = suspicion(log_odds, np.array([[1, 0, -1]], np.int8))
    assert scores.tolist() == [[6.0, 2.5, -np.inf]], "present against its odds, absent against them, unknown"
    assert most_suspicious(scores) == [(0, 0), (0, 1)]
    assert most_suspicious(np.array([[-1.0, 0.0, 2.0], [3.0, 2.0, -np.inf]])) == [(1, 0), (0, 2), (1, 1)]


def test_weights_are_those_that_the_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    logits, evidence = rng.normal(size=(2, 20_000, 3)).astype(np.float32)
    p = 1 / (1 + np.exp(-(0.5 * logits + 1.5 * evidence - 0.7)))
    labels = (rng.random(p.shape) < p).astype(np.int8)
    found = fit_weights(logits, evidence, labels)
    assert [found.prior, found.critic, found.offset] == pytest.approx([0.5, 1.5, -0.7], abs=0.04)
    labels[::2] = -1
    half = fit_weights(np.where(labels < 0, 99, logits), evidence, labels)
    assert [half.prior, half.critic, half.offset] == pytest.approx([0.5, 1.5, -0.7], abs=0.06), "unknown: left out"


def test_without_labels_to_learn_from_theory_stands():
    nothing = np.zeros((1, 2), np.float32)
    found = fit_weights(nothing, nothing, np.array([[1, 0]], np.int8), expected=3.0)
    assert [found.prior, found.critic, found.offset] == pytest.approx([1, 3, 0], abs=1e-5)


def test_a_critic_that_speaks_against_the_truth_is_not_heard():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (500, 2)).astype(np.int8)
    wrong = (1 - 2 * labels).astype(np.float32) + rng.normal(size=labels.shape).astype(np.float32)
    found = fit_weights(np.zeros(labels.shape, np.float32), wrong, labels)
    assert found.critic == 0
    assert found == fit_weights(np.zeros(labels.shape, np.float32), None, labels)


def test_every_row_is_scored_by_networks_that_have_not_seen_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of three folds of 20 rows. G says 1 of every label in the first and 4 in the second: 2.5 on average."""
    x, y = np.zeros((20, 2), np.float32), np.eye(20, 3, dtype=np.int8)
    np.savez(tmp_path / "x.npz", X=x, Y=y, label_names=np.array(LABELS))
    source = Source(str(tmp_path / "x.npz"))
    project = open_project(Workspace(tmp_path, tmp_path), source, Machine(device="cpu"), SilentReporter())
    drawn: dict[str, list[frozenset[str]]] = {}

    def trained(fold: Project, config: AuditConfig, job: Job) -> str:
        parts = [set(fold.dataset.splits[name].paths) for name in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 20, "all rows, each in one split"
        assert len(parts[1]) == round(0.1 * (20 - len(parts[2])))
        draw, number = job.out.parts[-2:]
        assert (number, config.seed) == (f"fold-{len(drawn.get(draw, ())) + 1}", 5 if draw == "draw-1" else 6)
        drawn.setdefault(draw, []).append(frozenset(parts[2]))
        return draw

    def score_held_out(
        draw: str, held: Inputs, split: str, audited: NDArray[np.int64], device: torch.device
    ) -> HeldOutScores:
        said = np.full(held.labels.shape, 1 if draw == "draw-1" else 4, np.float32)
        return HeldOutScores(held.paths, [], held.labels.numpy(), audited, said, 10 * said)

    monkeypatch.setattr(crossfit, "_trained", trained)
    monkeypatch.setattr(crossfit, "score_held_out", score_held_out)
    config = AuditConfig(folds=3, repeats=2, held_out=0.1, seed=5)
    found, _ = crossfit.cross_fit(project, config, Job(tmp_path / "runs"), lambda: None)
    assert (found.logits == 2.5).all() and (found.evidence == 25).all()
    assert [len(folds) for folds in drawn.values()] == [3, 3]
    for folds in drawn.values():
        assert sorted(map(len, folds)) == [6, 7, 7] and frozenset.union(*folds) == set(found.paths)
    assert set(drawn["draw-1"]).isdisjoint(drawn["draw-2"]), "the second draw is another one"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sandbox, np.ndarray]:
    """Features tell label 2 alone; 0 and 1 go together. 5 % of the labels are flipped, some unknown."""
    sandbox = Sandbox(tmp_path_factory.mktemp("planted"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    hidden = rng.integers(0, 2, 400)
    y = np.stack([hidden, hidden, x[:, 0] > 0], axis=1).astype(np.int8)
    flipped = rng.random(y.shape) < 0.05
    written = np.where(flipped, 1 - y, y)
    written[:5, 2] = -1
    np.savez(sandbox.folder / "x.npz", X=x, Y=written, label_names=np.array(LABELS))
    flipped[:5, 2] = False
    return sandbox, flipped


def test_planted_mistakes_are_found(planted: tuple[Sandbox, np.ndarray]) -> None:
    sandbox, flipped = planted
    out = sandbox.folder / "found"
    found = sandbox.json("audit", sandbox.folder / "x.npz", "--out", out, *PLANTED)
    assert (found["n_images"], found["n_labels"]) == (400, 1195), "five are unknown"
    rows = list(csv.DictReader((out / "audit.csv").open()))
    assert len(rows) == found["n_findings"]
    assert (
        ",".join(rows[0])
        == "path,split,label,written,suggested,score,probability,critic,other_labels,priority,kind,image"
    )
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    cells = [(int(row["path"].removeprefix("row-")), LABELS.index(row["label"])) for row in rows]
    image = [cell for cell in cells if cell[1] == 2]
    wanted = int(flipped[:, 2].sum())
    assert np.mean([flipped[cell] for cell in image[:wanted]]) > 0.6, "by the image"
    # Of a pair that parts, either may be the mistake; that one of them is, no image tells: it is the critic's finding.
    parted = flipped[:, 0] ^ flipped[:, 1]
    pairs = [row for row, label in cells if label < 2]
    assert np.mean(parted[pairs[: int(parted.sum())]]) > 0.9, "by the other label"
    assert found["weights"]["critic"] > 0.3


def test_decided_rows_have_no_mistakes_any_more(planted: tuple[Sandbox, np.ndarray]) -> None:
    """All suspects are right, says the reviewer: nothing is trained again, and hardly a mistake is left."""
    sandbox, _ = planted
    table = sandbox.folder / "x.npz"
    before = sandbox.json("audit", table, "--out", sandbox.folder / "found", *PLANTED)
    place, dataset = Place.of(table), registry.load_source(Source(str(table)), sandbox.folder, SilentReporter())
    rows = {path: (split, row) for split in dataset.splits.values() for row, path in enumerate(split.paths)}

    def right(path: str) -> Decision:
        split, row = rows[path]
        labels = label_set(split.space, split.labels[row])
        return Decision(now(), "ada", place.table, path, "reject", labels, labels, content_of(split, row))

    try:
        append(place.file, [right(card["path"]) for card in before["cards"]])
        some = sandbox.json("audit", table, "--out", sandbox.folder / "found", *PLANTED)
        append(place.file, [right(path) for path in rows.keys() - {card["path"] for card in before["cards"]}])
        every = sandbox.json("audit", table, "--out", sandbox.folder / "found", *PLANTED)
    finally:
        place.file.unlink()
    assert (some["cards"], some["n_decided"]) == ([], len(before["cards"]))
    assert some["estimate"]["number"] < 0.5 * before["estimate"]["number"]
    assert (every["estimate"]["number"], every["estimate"]["high"], every["n_decided"]) == (0, 0, 400)


def test_a_finding_s_parts_add_up_to_its_score(planted: tuple[Sandbox, np.ndarray]) -> None:
    """Log-odds = prior * logit(p) + the critic's share + offset; the score is these, against what is written."""
    sandbox, _ = planted
    found = sandbox.json("audit", sandbox.folder / "x.npz", "--out", sandbox.folder / "found", *PLANTED)
    weights = found["weights"]
    assert weights["critic"] != pytest.approx(1, abs=0.01), "so that a share that is not weighed would show"
    for one in found["findings"]:
        p = one["probability"]
        odds = weights["prior"] * math.log(p / (1 - p)) + one["critic"] + weights["offset"]
        assert one["score"] == pytest.approx(-odds if one["written"] == "present" else odds, abs=1e-4)


def test_the_same_audit_again_trains_nothing_and_gives_the_same_bytes(planted: tuple[Sandbox, np.ndarray]) -> None:
    sandbox, _ = planted
    words = ("audit", sandbox.folder / "x.npz", *QUICK, "--out", sandbox.folder / "twice")
    sandbox.json(*words)
    table = sandbox.folder / "twice" / "audit.csv"
    runs = sandbox.folder / "twice" / "runs"
    before = table.read_bytes(), {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    assert len(before[1]) == 2 * 2 * 3, "two folds, two stages; last, best and rows"
    table.unlink()
    sandbox.json(*words)
    assert (table.read_bytes(), {path: path.stat().st_mtime_ns for path in before[1]}) == before
    other = sandbox.run(*words, "--seed", 1)
    assert other.exit_code == 1
    assert "has an audit with other settings: seed 0 there, 1 here" in other.stderr
    sandbox.json(*words, "--seed", 1, "--fresh")


class TestCorrectedLabels:
    """What belongs to the former labels makes way by itself, and the former table is kept."""

    @pytest.fixture
    def audited(self, tmp_path: Path) -> Sandbox:
        sandbox = Sandbox(tmp_path)
        self.write(sandbox)
        self.audit(sandbox)
        return sandbox

    def write(self, sandbox: Sandbox, **changes: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        arrays = {"X": rng.normal(size=(40, 4)).astype(np.float32), "Y": rng.integers(0, 2, (40, 3)).astype(np.int8)}
        np.savez(sandbox.folder / "x.npz", label_names=np.array(LABELS), **(arrays | changes))

    def audit(self, sandbox: Sandbox, *words: object, code: int = 0) -> str:
        out = ("--out", sandbox.folder / "a")
        result = sandbox.run(
            "audit", sandbox.folder / "x.npz", "--folds", 2, "--repeats", 1, "--steps", 5, *out, *words
        )
        assert result.exit_code == code, result.stderr
        return result.stderr

    def correct(self, sandbox: Sandbox) -> None:
        labels = np.load(sandbox.folder / "x.npz")["Y"]
        labels[0] = 1 - labels[0]
        self.write(sandbox, Y=labels)

    def test_the_folds_are_trained_again_and_the_table_kept(self, audited: Sandbox) -> None:
        folder = audited.folder / "a"
        former = (folder / "audit.csv").read_bytes()
        self.correct(audited)
        said = self.audit(audited)
        (kept,) = folder.glob("audit-????-??-??T????.csv")
        assert f"its folds are trained again; the former table is kept as {kept}" in said
        assert kept.read_bytes() == former
        assert (folder / "audit.csv").read_bytes() != former
        anew = self.audit(audited, "--out", audited.folder / "b")
        assert "trained again" not in anew
        assert (folder / "audit.csv").read_bytes() == (audited.folder / "b" / "audit.csv").read_bytes()
        assert "trained again" not in self.audit(audited), "once"

    def test_added_rows_do_the_same(self, audited: Sandbox) -> None:
        data = np.load(audited.folder / "x.npz")
        self.write(
            audited, X=np.concatenate([data["X"], data["X"][:2] + 1]), Y=np.concatenate([data["Y"], data["Y"][:2]])
        )
        assert "trained again" in self.audit(audited)

    def test_two_corrections_within_a_minute_keep_two_tables(self, audited: Sandbox) -> None:
        for _ in range(2):
            self.correct(audited)
            self.audit(audited)
        assert len(list((audited.folder / "a").glob("audit-*.csv"))) == 2

    def test_an_interrupted_restart_goes_on(self, audited: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.correct(audited)
        with monkeypatch.context() as patched:
            patched.setattr(crossfit.shutil, "rmtree", interrupted)
            self.audit(audited, code=130)
        assert "trained again" in self.audit(audited)
        assert len(list((audited.folder / "a").glob("audit-*.csv"))) == 1

    def test_other_settings_are_refused(self, audited: Sandbox) -> None:
        for words in (("--folds", 4), ("--seed", 1), ("--steps", 6)):
            said = self.audit(audited, *words, code=1)
            assert f"has an audit with other settings: {words[0][2:]}" in said
            assert "data have changed" not in said
        assert not list((audited.folder / "a").glob("audit-*.csv"))
        assert "with other settings" not in self.audit(audited, "--folds", 4, "--fresh")

    def test_the_audit_of_another_data_set_is_not_replaced(self, audited: Sandbox) -> None:
        before = {path.name: path.read_bytes() for path in (audited.folder / "a").glob("audit.*")}
        self.correct(audited)
        (audited.folder / "x.npz").rename(audited.folder / "y.npz")
        words = ("--folds", 2, "--repeats", 1, "--steps", 5, "--out", audited.folder / "a")
        result = audited.run("audit", audited.folder / "y.npz", *words)
        assert result.exit_code == 1
        assert "has an audit of x-" in result.stderr and "--out" in result.stderr
        assert {path.name: path.read_bytes() for path in (audited.folder / "a").glob("audit.*")} == before

    def test_a_data_set_that_was_renamed_keeps_its_audit(self, audited: Sandbox) -> None:
        (audited.folder / "x.npz").rename(audited.folder / "y.npz")
        words = ("--folds", 2, "--repeats", 1, "--steps", 5, "--out", audited.folder / "a")
        assert audited.run("audit", audited.folder / "y.npz", *words).exit_code == 0

    def test_an_audit_of_version_0_2_goes_on(self, audited: Sandbox) -> None:
        origin = audited.folder / "a" / "runs" / "origin.json"
        former = json.loads(origin.read_text())["fingerprint"]
        origin.unlink()
        origin.with_name("data.sha256").write_text(former)
        assert "trained again" not in self.audit(audited)
        origin.unlink()
        self.correct(audited)
        assert "trained again" in self.audit(audited)

    def test_runs_of_the_user_in_the_same_folder_stay(self, audited: Sandbox) -> None:
        mine = audited.folder / "a" / "runs" / "mine" / "best.safetensors"
        mine.parent.mkdir()
        mine.write_bytes(b"x")
        self.correct(audited)
        self.audit(audited)
        assert mine.read_bytes() == b"x"

    def test_the_next_command_can_be_pasted(self, audited: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(next_command, "_is_interactive", lambda: True)
        data = ["--dataset", str(audited.folder / "x.npz")]
        first = self.audit(audited).splitlines()[-1].removeprefix("next: ")
        assert shlex.split(first) == ["labeldep", "pretrain", *data]
        assert audited.run("pretrain", *data, "--steps", 2).exit_code == 0
        self.correct(audited)
        assert audited.run("pretrain", *data, "--steps", 2).exit_code == 1, "the run is of the former labels"
        following = self.audit(audited).splitlines()[-1].removeprefix("next: ")
        assert shlex.split(following) == ["labeldep", "pretrain", *data, "--fresh"]
        assert audited.run(*shlex.split(following)[1:], "--steps", 2).exit_code == 0


def interrupted(path: Path) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("audit"))
    make_table(sandbox.table.parent)
    return sandbox


def test_gallery_of_a_data_set_of_images(sandbox: Sandbox) -> None:
    result = sandbox.run("audit", sandbox.table, *BACKBONE, *QUICK, "--top", 3, "--out", sandbox.folder / "audit")
    assert result.exit_code == 0, result.stderr
    assert "checked: 180 written labels of 60 rows" in result.stdout
    page = (sandbox.folder / "audit" / "audit.html").read_text()
    rows = list(csv.DictReader((sandbox.folder / "audit" / "audit.csv").open()))
    cards = read_audit(sandbox.folder / "audit").cards
    shown = re.search(r'id="review-data">(.*?)</script>', page, flags=re.DOTALL)
    assert shown is not None
    data = json.loads(shown[1])
    assert [card["path"] for card in data["cards"]] == [card.path for card in cards[:3]]
    assert all(card["image"].startswith("data:image/jpeg;base64,") for card in data["cards"])
    suspects = [[(data["labels"][one["label"]], one["present"]) for one in card["suspects"]] for card in data["cards"]]
    assert suspects == [[(one.label, not one.written) for one in card.suspects] for card in cards[:3]]
    assert [[data["labels"][k] for k in card["states"][0]["present"]] for card in data["cards"]] == [
        list(card.written) for card in cards[:3]
    ]
    assert "http:" not in page and "https:" not in page, "nothing is fetched"
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    truth = {line.split(",")[0]: line.split(",")[2:] for line in sandbox.table.read_text().splitlines()[1:]}
    for row in rows:
        own = {name for name, value in zip(LABELS, truth[row["path"]], strict=True) if value == "1"}
        assert (row["label"] in own) == (row["written"] == "present")
        assert {name for name in row["other_labels"].split(";") if name} == own - {row["label"]}


def test_a_run_is_audited_on_what_it_has_not_seen(sandbox: Sandbox) -> None:
    words = (
        "adversarial",
        "--dataset",
        sandbox.table,
        *BACKBONE,
        "--critic",
        "nce",
        "--freeze-generator",
        "--steps",
        3,
    )
    run = Path(str(sandbox.json(*words)["run"]))
    found = sandbox.json("audit", run.name, "--out", sandbox.folder / "of-run")
    assert (found["n_images"], found["n_labels"]) == (24, 72), "val and test"
    assert {finding["split"] for finding in found["findings"]} <= {"val", "test"}
    assert sandbox.json("audit", run, "--split", "val", "--out", sandbox.folder / "of-val")["n_images"] == 12
    refused = sandbox.run("audit", run, "--split", "train", "--out", sandbox.folder / "none")
    assert refused.exit_code == 1
    assert "mistakes and all" in refused.stderr
    assert f"labeldep audit {sandbox.table} --backbone squeezenet1_1 --weights none" in refused.stderr


def test_a_run_s_critic_is_expected_to_count_as_it_does_at_test_time(tmp_path: Path) -> None:
    """A critic that says the same of every set is no evidence: its weight stays what it was expected to be."""
    sandbox = Sandbox(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 2, (40, 3)).astype(np.int8)
    np.savez(tmp_path / "x.npz", X=x, Y=y, label_names=np.array(LABELS))
    words = ("--dataset", tmp_path / "x.npz", "--critic", "nce", "--freeze-generator", "--steps", 2)
    run = Path(str(sandbox.json("adversarial", *words)["run"]))
    tensors, facts = checkpoint.load(run / "best.safetensors")
    flat = {
        name: 0 * value if name.startswith("critic.") and "feature_" not in name else value
        for name, value in tensors.items()
    }
    for beta, expected in ((3.0, 3), (0.5, 0.5), (None, 1)):
        checkpoint.save(run / "best.safetensors", flat, {**facts, "beta": beta})
        found = sandbox.json("audit", run, "--out", tmp_path / "audit")
        assert found["weights"]["critic"] == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def pretrained(sandbox: Sandbox) -> Path:
    return Path(str(sandbox.json("pretrain", "--dataset", sandbox.table, *BACKBONE, "--steps", 3, "--seed", 7)["run"]))


def test_a_run_without_a_critic_says_so(sandbox: Sandbox, pretrained: Path) -> None:
    result = sandbox.run("audit", pretrained.name, "--out", sandbox.folder / "plain", "--json")
    assert result.exit_code == 0, result.stderr
    assert "has no critic" in result.stderr
    findings = json.loads(result.stdout)["findings"]
    assert all(finding["critic"] is None for finding in findings)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("x.npz", "--split", "test"), 2, "--split"),
        (("x.npz", "--folds", 999), 1, "too few for 999 folds"),
        (("nothing-here",), 1, "there is no data set 'nothing-here'"),
    ],
)
def test_errors(planted: tuple[Sandbox, np.ndarray], words: tuple[object, ...], code: int, told: str) -> None:
    sandbox, _ = planted
    what = sandbox.folder / words[0] if words[0] == "x.npz" else words[0]
    result = sandbox.run("audit", what, *words[1:], "--out", sandbox.folder / "no")
    assert result.exit_code == code
    assert told in result.stderr


def test_flags_that_a_trained_run_cannot_follow_are_refused(sandbox: Sandbox, pretrained: Path) -> None:
    result = sandbox.run("audit", pretrained.name, "--folds", 3, "--out", sandbox.folder / "no")
    assert result.exit_code == 2
    assert "trained already" in result.stderr


def test_beside_cleanlab() -> None:
    """Self-confidence ranks cells as |y - p| does; and cleanlab finds what it should in the benchmark's scoring."""
    pytest.importorskip("cleanlab")
    from benchmarks.audit import _cells
    from labeldep_cli.pipelines.audit import Audit

    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (300, 3)).astype(np.float32)
    right = (logits + rng.logistic(size=logits.shape) > 0).astype(np.int8)
    flipped = rng.random(right.shape) < 0.05
    written = np.where(flipped, 1 - right, right).astype(np.int8)
    held_out = HeldOutScores([], [], written, np.arange(3), logits, None)
    estimate = Estimate(0, 0, 0, 900, 0, 0, 1.0, 0.8, 0)
    evidence = Evidence(LABELS, held_out, EvidenceWeights(1, 0, 0))
    record = AuditRecord(Source(), Path(), "", LABELS, estimate, (), 0, (), ())
    found = Audit(record, Path(), 300, 900, evidence, (), False)
    ap = _cells(found, flipped)
    assert ap["|y - p|"] == pytest.approx(ap["cleanlab, self-confidence"])
    assert ap["audit"] == pytest.approx(ap["|y - p|"]), "the same ranking, where no critic and no weight is at work"
    assert ap["cleanlab, filter first"] > 5 * 100 * flipped.mean()


@pytest.mark.parametrize("mean_ap", [0.384, 0.8])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_what_is_told_fits_a_terminal(capsys: pytest.CaptureFixture[str], mean_ap: float, n: int) -> None:
    """No line is longer than 80 characters by itself; names of files and labels may make it so."""
    held_out = HeldOutScores([], [], np.zeros((0, 3), np.int8), np.arange(3), np.zeros((0, 3), np.float32), None)
    suspects = tuple(
        Suspect(label, False, 2.0, p, None, 1.0, kind, 1.0, None, 1, None)
        for label, p, kind in (
            ("cat", 0.9999, "mistake"),
            ("dog", 0.001, "mistake"),
            ("mat", 0.5, "rare combination"),
            ("sun", 0.5, "mistake"),
        )
    )
    cards = tuple(Card(f"img/{k}.png", "train", (), (), suspects) for k in range(n))
    twins = (Contradiction(tuple(f"{k}.jpg" for k in range(30)), ("cat",)),) * n
    record = AuditRecord(
        Source(), Path(), "pets", LABELS, Estimate(5, 70, 1_234, 9_000, 0, 0, 1.0, mean_ap, 0), cards, 12, (), twins
    )
    evidence = Evidence(LABELS, held_out, EvidenceWeights(1, 0, 0))
    audit_command._show(Audit(record, Path("audit"), 123_456, 1_234_567, evidence, (), False), None, json=False)
    told = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in told if not line.startswith("  ")) <= 80
    assert ("more cannot be told" in told[1]) == (mean_ap < 0.5)
    row = "  img/0.png: cat -> present (> 99 %), dog -> present (< 1 %), mat (rare), and 1 more"
    twin = "same image, other labels: 0.jpg, 1.jpg, 2.jpg, and 27 more: cat"
    assert (told.count(row), told.count(twin)) == (min(n, 1), min(n, 10))
    assert ("0 images with a suspected mistake" in told) == (n == 0), "no colon with nothing after it"


def test_a_data_set_with_another_programs_config_beside_it_is_no_run(sandbox: Sandbox, tmp_path: Path) -> None:
    make_table(tmp_path / "pets")
    for text in ('{"command": "pretrain", "settings": []}', '{"lr": 0.1}', "no JSON"):
        (tmp_path / "pets" / "config.json").write_text(text)
        assert not is_run(str(tmp_path / "pets"), sandbox.folder / "runs")
    run = sandbox.json("pretrain", "--dataset", sandbox.table, *BACKBONE, "--steps", 1, "--out", tmp_path / "run")[
        "run"
    ]
    assert is_run(str(run), sandbox.folder / "runs")
