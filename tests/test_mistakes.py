"""The estimated number of mistakes, and what tells them from rare combinations: planted ones, by hand, as a record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labeldep_cli.config import Source
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation import audit, mistakes
from labeldep_cli.evaluation.audit import EvidenceWeights
from labeldep_cli.evaluation.mistakes import ENOUGH_REVIEWS, Estimate, Reviewed, estimate_mistakes, mistake_odds
from labeldep_cli.evaluation.rarity import image_evidence
from labeldep_cli.evaluation.suspects import Card, Pair, Suspect
from labeldep_cli.experiments.audit_cards import Evidence
from labeldep_cli.experiments.audit_record import (
    RECORD,
    AuditRecord,
    Contradiction,
    Verdict,
    former_audit,
    read_audit,
    verdicts,
)
from labeldep_cli.experiments.cross_fitting import HeldOutScores
from labeldep_cli.progress import SilentReporter

NAMES = ("cat", "dog", "mat", "sun")


def drawn(scale: float, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated log-odds of four labels, and true labels drawn with them."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(-1, scale, (n, 4))
    return log_odds, (rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)


def flipped(y: np.ndarray, missing: float, extra: float) -> np.ndarray:
    u = np.random.default_rng(1).random(y.shape)
    return np.where(u < np.where(y > 0, missing, extra), 1 - y, y).astype(np.int8)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "DRAWS", 10)


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(("missing", "extra"), [(0.0, 0.0), (0.2, 0.0), (0.05, 0.05)])
def test_the_interval_has_the_planted_number(missing: float, extra: float) -> None:
    log_odds, y = drawn(6.0)
    written = flipped(y, missing, extra)
    found = estimate_mistakes(log_odds, written, 0.8, seed=0)
    planted = int((written != y).sum())
    assert found.low <= planted <= found.high
    assert found.high - found.low < 400, "of 12,000 labels"
    assert not found.is_vague and found.of == y.size
    unranked = estimate_mistakes(log_odds, written, 0.4, seed=0)
    assert (unranked.low, unranked.high) == (0, found.high)
    assert unranked.is_vague, "weak networks"
    if extra == 0:
        assert found.extra < 60
    unknown = written.copy()
    unknown[:, 3] = -1
    assert estimate_mistakes(np.where(unknown < 0, 99, log_odds), unknown, 0.8, seed=0).of == 9000


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_networks_that_see_nothing_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    found = estimate_mistakes(rng.normal(size=(400, 4)), rng.integers(0, 2, (400, 4)).astype(np.int8), 0.8, seed=0)
    assert found.low == 0
    assert found.is_vague
    log_odds, y = drawn(1.0, 1000)
    unsure = estimate_mistakes(log_odds, flipped(y, 0.05, 0.05), 0.8, seed=0)
    assert unsure.low == 0
    assert unsure.is_vague, "log-odds of 3 are as sure as they get"


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_decisions_of_a_reviewer_outweigh_the_law() -> None:
    log_odds, y = drawn(6.0, 1000)
    written = flipped(y, 0.1, 0.1)
    alone = estimate_mistakes(log_odds, written, 0.8, seed=0)
    few = [Reviewed(5.0, False)] * (ENOUGH_REVIEWS - 1)
    assert estimate_mistakes(log_odds, written, 0.8, 0, few) == alone, "too few"
    all_right = estimate_mistakes(log_odds, written, 0.8, 0, [Reviewed(5.0, False)] * 200)
    suspects = (np.where(written > 0, -log_odds, log_odds) > 4).sum()
    assert all_right.reviewed == 200
    assert all_right.number < alone.number - 0.8 * suspects
    all_wrong = estimate_mistakes(log_odds, written, 0.8, 0, [Reviewed(5.0, True)] * 200)
    assert alone.number - 10 < all_wrong.number < alone.number + suspects


def test_without_a_label_that_is_open_there_is_no_mistake() -> None:
    for rows in (0, 5):
        found = estimate_mistakes(np.zeros((rows, 4)), np.full((rows, 4), -1, np.int8), 0.3, seed=0)
        assert (found.low, found.number, found.high, found.of, found.is_vague) == (0, 0, 0, 0, False)


def test_the_odds_of_a_mistake_know_the_rates() -> None:
    """Nothing is missing here: a label that is absent against the odds is less suspicious than one that is written."""
    log_odds, y = drawn(6.0)
    written = flipped(y, 0.0, 0.1)
    written[0] = (0, 1, -1, 0)
    log_odds[0] = (4, -4, 4, 4)
    odds = mistake_odds(log_odds, written)
    assert odds[0, 1] > 0 > odds[0, 0]
    assert odds[0, 2] == -np.inf


def test_the_image_s_evidence_is_beyond_the_label_s_share() -> None:
    """Label 0 is seen, with calibrated logits; label 1, on 2 % of the images, is not seen at all."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (5000, 2)).astype(np.float32)
    y = np.stack([rng.random(5000) < 1 / (1 + np.exp(-z[:, 0])), rng.random(5000) < 0.02], axis=1).astype(np.int8)
    found = image_evidence(z, y)
    assert np.abs(found[:, 0] - z[:, 0]).max() < 1.0, "the share is a half, whose log-odds are 0"
    assert np.abs(found[:, 1]).max() < 1.0, "though the logits go up to 10"
    y[:, 1] = -1
    assert np.abs(image_evidence(z, y)[:, 1]).max() < 1e-6, "unknown throughout"
    y[:, 1] = z[:, 1] > 0
    separable = image_evidence(z, y)[:, 1]
    assert np.isfinite(separable).all()
    assert ((separable > 0) == (y[:, 1] > 0)).mean() > 0.99


def evidence() -> Evidence:
    """400 rows whose images show every label; row 0 has a label that its image does not show, row 1 a rare pair."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (400, 4)).astype(np.int8)
    y[:, 3] &= 1 - y[:, 2]
    y[0], y[1], y[2] = (1, 0, 0, 0), (0, 0, 1, 1), (1, 0, 0, -1)
    logits = np.where(y > 0, 3, -3).astype(np.float32) + rng.normal(0, 0.5, y.shape).astype(np.float32)
    logits[0, 0] = -3
    critic = np.zeros(y.shape, np.float32)
    critic[1, 3] = -9  # the others speak against it
    held_out = HeldOutScores([f"{k}.jpg" for k in range(400)], ["train"] * 400, y, np.arange(4), logits, critic)
    return Evidence(NAMES, held_out, EvidenceWeights(1, 1, 0))


def test_a_card_an_image_mistakes_before_rare_combinations() -> None:
    cards = evidence().cards()
    assert [(card.path, card.kind) for card in cards] == [("0.jpg", "mistake"), ("1.jpg", "rare combination")]
    mistake, rare = (card.suspects[0] for card in cards)
    assert (mistake.label, mistake.written, mistake.suggested) == ("cat", True, "absent")
    assert mistake.image > 0 > rare.image
    assert rare.score > mistake.score, "by score it would have come first"
    assert rare.pair == Pair("mat", 1, int(evidence().together[2, 2]))
    assert rare.same_set == 1
    assert rare.critic == -9
    assert mistake.pair is None
    assert evidence().cards(decided={"0.jpg"}) == cards[1:]
    assert cards[0].concerns("cat") and not cards[0].concerns("sun")


def test_rare_labels_are_not_audited_where_there_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names belong to the audited labels, and a card still lists all labels that are written."""
    whole = evidence().held_out
    monkeypatch.setattr(audit, "AUDITED", 3)
    assert audit.audited_labels([whole.sets[:9], whole.sets[9:]]).tolist() == [0, 1, 2], "label 3 is the rarest"
    some = np.array([0, 1, 3])  # as if label 2 were
    scored = replace(whole, audited=some, logits=whole.logits[:, some], evidence=whole.evidence[:, some])
    found = Evidence(NAMES, scored, EvidenceWeights(1, 1, 0))
    assert found.n_left_out == 1 and evidence().n_left_out == 0
    mistake, rare = found.cards()
    assert (mistake.path, rare.path) == ("0.jpg", "1.jpg")
    assert [suspect.label for suspect in rare.suspects] == [NAMES[3]]
    assert rare.written == (NAMES[2], NAMES[3])
    assert rare.suspects[0].pair is None, "the other label of the image is not audited"
    assert rare.suspects[0].same_set == 1


def record() -> AuditRecord:
    suspect = Suspect("cat", True, 2.5, 0.1, None, 2.0, "mistake", 2.0, 0.9, 3, Pair("dog", 1, 4))
    plain = Suspect("sun", False, 1.5, 0.9, 0.5, 1.0, "rare combination", -2.0, None, 1, None)
    card = Card("a.jpg", "train", ("cat", "dog"), ("mat",), (suspect, plain))
    return AuditRecord(
        Source("/x/labels.csv", stratify=True),
        Path("/data"),
        "x",
        NAMES,
        Estimate(1, 2, 3, 90, 1, 1, 0.5, 0.8, 12),
        (card,),
        4,
        (Verdict("b.jpg", "dog", 3.0, True),),
        (Contradiction(("a.jpg", "b.jpg"), ("cat",)),),
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record().write(tmp_path)
    assert read_audit(tmp_path) == record() == former_audit(tmp_path, "x", SilentReporter())
    assert former_audit(tmp_path, "other data", SilentReporter()) is None
    written = json.loads((tmp_path / RECORD).read_text())
    assert list(written)[:5] == ["format", "dataset", "of", "labels", "estimate"]
    assert written["dataset"]["dataset"] == "/x/labels.csv" and written["dataset"]["data_dir"] == "/data"
    assert written["cards"][0]["suspects"][0]["written"] == "present"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "has no audit.json"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 9}', "has format 9"),
    ],
)
def test_a_record_that_cannot_be_read(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / RECORD).write_text(text)
    with pytest.raises(LabeldepError, match=told) as raised:
        read_audit(tmp_path)
    assert "\nlabeldep audit " in raised.value.remedy
    assert former_audit(tmp_path, "x", SilentReporter()) is None


def test_verdicts_are_what_became_of_the_suspects() -> None:
    found = verdicts(record(), {"a.jpg", "b.jpg"}, {("a.jpg", "dog")})
    assert found == (
        Verdict("b.jpg", "dog", 3.0, True),
        Verdict("a.jpg", "cat", 2.5, True),
        Verdict("a.jpg", "sun", 1.5, False),
    )
    assert verdicts(record(), {"a.jpg"}, {("a.jpg", "cat"), ("a.jpg", "sun")}) == (
        Verdict("a.jpg", "cat", 2.5, False),
        Verdict("a.jpg", "sun", 1.5, True),
    ), "b.jpg is no longer decided"
    assert verdicts(None, {"a.jpg"}, set()) == ()


def test_identical_rows_with_other_labels_are_certain_mistakes(tmp_path: Path, draw: Draw) -> None:
    from labeldep_cli.config import Machine, Workspace
    from labeldep_cli.experiments.contradictions import contradictions
    from labeldep_cli.progress import SilentReporter
    from labeldep_cli.projects.open import open_project

    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    x[3], x[5], x[7] = x[0], x[0], x[6]
    y = np.tile(np.eye(3, dtype=np.int8), (4, 1))
    y[0], y[3], y[5], y[6], y[7] = (1, 0, 0), (1, 1, -1), (1, 0, 1), (0, 1, 0), (0, 1, -1)
    np.savez(tmp_path / "x.npz", X=x, Y=y, label_names=np.array(NAMES[:3]))
    source = Source(str(tmp_path / "x.npz"))
    project = open_project(Workspace(tmp_path, tmp_path), source, Machine(device="cpu"), SilentReporter())
    (found,) = contradictions(project)
    assert {int(path.removeprefix("row-")) for path in found.paths} == {0, 3, 5}
    assert found.labels == ("dog", "mat")
