"""The report: what it computes, what it refuses, and how it does in a browser."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from sandbox import BACKBONE, Sandbox, make_table

from labeldep_cli import config
from labeldep_cli.evaluation.cooccurrence import clustered, log_lift
from labeldep_cli.evaluation.curves import by_threshold, precision_recall
from labeldep_cli.evaluation.evaluate import collect_features
from labeldep_cli.evaluation.metrics import score
from labeldep_cli.experiments.scores import predict_split
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.progress import SilentReporter
from labeldep_cli.reports.heatmap import picture
from labeldep_cli.reports.run_report.images import evidence
from labeldep_cli.reports.run_report.one_run import run_reports
from labeldep_cli.reports.thumbnails import thumbnails
from labeldep_cli.runs.find import open_run

FEATURES = ("f1", "ap", "precision", "recall")


def test_a_curve_holds_the_scores_of_every_threshold() -> None:
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(50, 4)), 1).astype(np.float32)  # with ties
    labels = rng.choice([-1, 0, 0, 1], size=(50, 4)).astype(np.int8)
    labels[:, 3] = np.minimum(labels[:, 3], 0)  # a label that never occurs
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    thresholds = np.array([0.1, 0.5, float(p[3, 1]), 0.9])
    curve = by_threshold(p, labels, thresholds)
    for k, threshold in enumerate(thresholds):
        wanted = score(logits, p > threshold, labels, tuple("abcd"))
        for name in ("CF1", "OP", "OR", "OF1", "labels_per_image"):
            assert getattr(curve, name)[k] == pytest.approx(getattr(wanted, name))


def test_precision_and_recall_by_hand() -> None:
    """Ranked right, wrong, right: one of one, then two of three."""
    curve = precision_recall(np.array([[0.9, 0.8, 0.7]]), np.array([[1, 0, 1]], dtype=np.int8))
    assert curve.OP[[0, -1]] == pytest.approx([100, 200 / 3])
    assert curve.OR[[0, -1]] == pytest.approx([50, 100])


def test_lift_by_hand() -> None:
    """7 of 16 images have both of two labels of 8 each, which chance gives 4: (7 + .5) / (4 + .5)."""
    found = log_lift(np.array([[8.0, 7.0], [7.0, 8.0]]), 16)
    assert found[0, 1] == pytest.approx(np.log2(7.5 / 4.5))
    assert found[0, 0] == 0


def test_labels_that_go_together_stand_together() -> None:
    similarity = np.zeros((6, 6))
    for group in ((0, 3, 5), (1, 2, 4)):
        similarity[np.ix_(group, group)] = 2
    similarity[0, 3] = similarity[3, 0] = 3
    order = clustered(similarity)
    assert sorted(order) == list(range(6))
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset((0, 3, 5)), frozenset((1, 2, 4))}
    assert abs(order.index(0) - order.index(3)) == 1


def test_a_value_below_zero_is_a_bar() -> None:
    import base64
    import io

    from PIL import Image

    uri = picture(np.array([[1.0, -1.0], [0.0, 0.5]]), most=1.0)
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))[..., 3]
    assert (alpha[:6, :6] == 255).all()
    assert alpha[:6, 6].tolist() == [0, 0, 255, 255, 0, 0]
    assert not alpha[6:, :6].any()
    assert alpha[8, 8] == 128


def test_thumbnails_keep_to_their_budget(tmp_path: Path) -> None:
    files = [draw_image(tmp_path / f"{k}.png", k, (400, 300)) for k in range(5)]
    files[2].write_bytes(b"no image")
    whole = thumbnails(files, PixelRules(), 1_000_000, SilentReporter())
    assert [bool(uri) for uri in whole] == [True, True, False, True, True]
    size = sum(map(len, whole))
    smaller = thumbnails(files, PixelRules(), size - 1, SilentReporter())
    assert len(smaller) == 5
    assert sum(map(len, smaller)) < size
    assert len(thumbnails(files, PixelRules(), len(smaller[0]) // 2, SilentReporter())) < 5


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """On small images a baseline, an adversarial run and a critic; on ready features a run, and one split otherwise."""
    sandbox = Sandbox(tmp_path_factory.mktemp("report"))
    make_table(sandbox.table.parent)
    words = ("--dataset", sandbox.table, *BACKBONE)
    sandbox.json("pretrain", *words, "--steps", 20, "--out", sandbox.folder / "runs" / "base")
    for name, critic in (("adv", ("--critic-layers", 2)), ("critic", ("--critic", "nce", "--freeze-generator"))):
        out = ("--from", "base", "--steps", 4, "--out", sandbox.folder / "runs" / name)
        sandbox.json("adversarial", *words, *critic, *out)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype(np.float32)
    names = ["<b>one</b>", "two & three", "four"]
    np.savez(sandbox.folder / "x.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=names)
    for name, seed in (("ready", 0), ("elsewhere", 1)):
        flags = ("--steps", 5, "--split-seed", seed, "--out", sandbox.folder / "runs" / name)
        sandbox.json("pretrain", "--dataset", sandbox.folder / "x.npz", *flags)
    return sandbox


@pytest.fixture(scope="module")
def page(sandbox: Sandbox) -> Path:
    """The report of three runs on images."""
    file = sandbox.folder / "page.html"
    found = sandbox.json("report", "base", "adv", "critic", "--out", file)
    assert found["bytes"] == file.stat().st_size < 5_000_000
    assert (found["n_images"], found["n_choosable"], found["unreadable"]) == (12, 12, [])
    assert list(found["runs"]) == ["A", "B", "C"]
    return file


def test_the_page_holds_the_scores_of_eval(sandbox: Sandbox, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for flags in ((), ("--threshold", "tuned"), ("--decision", "rerank")):
        scores = sandbox.json("eval", "critic", *flags)
        assert f"<td>{scores['CF1']:.2f}</td>" in text
    assert scores["provenance"]["ids_sha256"][:12] in text
    assert "there is no control to compare it with" in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text), "nothing is fetched"
    assert str(sandbox.folder) not in text, "no path of this machine"


def test_the_page_says_which_sets_can_be_accepted(sandbox: Sandbox, page: Path) -> None:
    """The critic's sets beside p > 0.5 of the same G, which is the baseline's."""
    text = page.read_text(encoding="utf-8")
    critic = sandbox.json("eval", "critic", "--decision", "rerank")["confidence"]
    section = text[text.index('id="confidence"') : text.index('id="labels"')]
    assert f"AURC {critic['AURC']:.2f}, accepted at 95 % right: {critic['coverage']['95']:.1f} %" in section
    assert f"<td>{critic['independent']['AURC']:.2f}</td>" in section
    assert 'aria-label="Risk and coverage.' in section
    assert section.count("independent, p &gt; 0.5") == 3


def test_the_same_runs_give_the_same_bytes(sandbox: Sandbox, page: Path) -> None:
    again = sandbox.folder / "again.html"
    sandbox.json("report", "base", "adv", "critic", "--out", again)
    assert again.read_bytes() == page.read_bytes()


@torch.inference_mode()
def test_evidence_is_what_the_critic_adds(sandbox: Sandbox) -> None:
    """Beta times D of the run's own set with a label, less D without it; of the rows asked for, in their order."""
    run = open_run("critic", sandbox.folder / "runs")
    run = replace(run, facts={**run.facts, "beta": 2.0})
    where = config.RunWorkspace(sandbox.folder / "runs")
    (one,) = run_reports([predict_split(run, where, config.Machine("cpu", workers=0), "test", None, SilentReporter())])
    found = evidence(one, [7, 2], np.array([[0, 1, 2], [2, 1, 0]]))
    critic, z = run.critic(torch.device("cpu")), collect_features(one.predictions.inputs)
    for k, row in enumerate((7, 2)):
        for place, label in enumerate((range(3), (2, 1, 0))[k]):
            own = torch.from_numpy(one.sets[row : row + 1]).float()
            with_it, without = own.clone(), own.clone()
            with_it[0, label], without[0, label] = 1, 0
            added = 2 * (critic(with_it, z[row : row + 1]) - critic(without, z[row : row + 1]))
            assert found[k, place] == pytest.approx(added.item(), abs=1e-5)


def test_what_the_script_reads(sandbox: Sandbox, page: Path) -> None:
    data = re.search(r'id="report-data">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert data is not None
    told = json.loads(data[1])
    assert len(told["records"]) == 12
    results = [sandbox.folder / "runs" / name / "result.json" for name in ("base", "adv", "critic")]
    weighed = [k for k, result in enumerate(results) if json.loads(result.read_text())["beta"]]
    assert told["critics"] == weighed
    for record in told["records"]:
        assert [len(label[4]) for label in record["labels"]] == [len(weighed)] * 3
        assert all(0 <= p <= 1000 for label in record["labels"] for p in label[3])
        for run, wrong in enumerate(record["wrong"]):
            assert wrong == sum((label[2] >> run & 1) != label[1] for label in record["labels"])


def test_ready_features_are_named_without_pictures_and_names_are_text(sandbox: Sandbox) -> None:
    file = sandbox.folder / "ready.html"
    result = sandbox.run("report", "ready", "--out", file)
    assert result.exit_code == 0, result.stderr
    text = file.read_text(encoding="utf-8")
    assert "data:image/jpeg" not in text
    assert "<b>one</b>" not in text
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "kB, 18 images of" in result.stdout


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["ready", "elsewhere"], "rows of test are rows that .*elsewhere was trained on"),
        (["base", "ready"], "base was trained on pets-.*, and .*ready on x-"),
        (["base"] * 7, "7 runs are too many for one page: it has colours for 6"),
        (["bse"], "there is no run 'bse'"),
    ],
)
def test_what_does_not_fit_is_refused(sandbox: Sandbox, names: list[str], told: str) -> None:
    result = sandbox.run("report", *names, "--out", sandbox.folder / "none.html")
    assert result.exit_code == 1
    assert re.search(told, result.stderr)
    assert not (sandbox.folder / "none.html").exists()


def test_images_that_are_gone_leave_their_names(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.json("eval", "base")  # its cache is there from now on
    shutil.move(sandbox.table.parent / "img", tmp_path / "img")
    try:
        found = sandbox.json("report", "base", "--out", tmp_path / "gone.html", code=3)
    finally:
        shutil.move(tmp_path / "img", sandbox.table.parent / "img")
    assert len(found["unreadable"]) == found["n_choosable"] == 12
    assert found["unreadable"][0] == {"path": "img/48.png", "reason": "can no longer be read"}
    assert "12 can no longer be read" in (tmp_path / "gone.html").read_text(encoding="utf-8")


def _violations(tab, part: str) -> list[tuple[str, str]]:
    found = tab.evaluate(f"axe.run({part}, {{resultTypes: ['violations']}})")["violations"]
    return [(one["id"], one["impact"]) for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_and_is_accessible(browser, page: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: told.append(request.url) if request.url[:5] not in ("file:", "data:") else None)
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    # Single marks of figures and cells of maps are many, and all alike: one figure and one map stand for the rest.
    alike = ".figures > :not(:first-child), .map:not(:first-child)"
    tab.evaluate(f"document.querySelectorAll('{alike}').forEach((one) => one.remove())")
    assert _violations(tab, "document") == []
    tab.locator(".look").first.click()
    assert _violations(tab, "document.getElementById('looked')") == []
    assert told == []
    context.close()


def test_it_is_used_by_keyboard(browser, page: Path) -> None:
    tab = browser.new_page()
    tab.goto(page.as_uri())
    names = "[...document.querySelectorAll('#label-table tbody tr:not([hidden]) th')].map((head) => head.textContent)"
    tab.focus("#label-table th:nth-child(1) button")
    tab.keyboard.press("Enter")
    assert tab.evaluate(names) == ["cat", "dog", "mat"]
    tab.keyboard.press("Enter")
    assert tab.evaluate(names) == ["mat", "dog", "cat"]
    assert tab.get_attribute("#label-table th:nth-child(1)", "aria-sort") == "descending"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    counts = [int(cell) for cell in tab.locator("#label-table tbody td:nth-child(2)").all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    tab.focus("#label-filter")
    tab.keyboard.type("O")
    assert tab.evaluate(names) == ["dog"]
    tab.focus(".map .scroll")
    tab.keyboard.press("ArrowRight")
    assert re.search(r"^\w+ \+ \w+: truth \d+ images, lift .*; A \d+", tab.inner_text("#pair"))
    tab.focus("#all .look")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.getElementById('looked').open")
    assert tab.locator("#looked-labels tr").count() == 3
    first = tab.inner_text("#looked-name")
    tab.focus("[data-by='1']")
    tab.keyboard.press("Enter")
    assert tab.inner_text("#looked-name") != first
    tab.keyboard.press("Escape")
    assert not tab.evaluate("document.getElementById('looked').open")
    assert tab.evaluate("document.activeElement.classList.contains('look')"), "the focus goes back"


def test_without_scripts_it_is_a_plain_page(browser, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    for score_name in FEATURES:
        assert tab.locator(f"#label-table td[data-score={score_name}]").first.is_visible()
    assert not tab.locator("#label-filter").is_visible()
    context.close()


def test_what_cannot_be_read_is_listed(sandbox: Sandbox) -> None:
    """In full mode images are read to be scored: exit 3, as `eval` does."""
    folder = sandbox.folder / "holes"
    make_table(folder)
    (folder / "img" / "48.png").write_bytes(b"no image")  # of test, the last fifth
    words = (*BACKBONE, "--full", "--steps", 1, "--out", sandbox.folder / "whole")
    run = sandbox.json("pretrain", "--dataset", folder / "labels.csv", *words)["run"]
    words = ("--out", sandbox.folder / "holes.html", "--max-skipped", 0.5)
    found = sandbox.json("report", run, *words, code=3)
    assert [skip["path"] for skip in found["skipped"]] == ["img/48.png"]
    assert "skipped: img/48.png: not an image" in sandbox.run("report", run, *words).stderr
