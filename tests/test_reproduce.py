"""`labeldep reproduce`: rows, tables, gallery, plan; interrupted and taken up again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA
from PIL import Image
from sandbox import Sandbox, make_table

from labeldep_cli.config import Machine, ReproduceConfig, Source, Workspace
from labeldep_cli.evaluation.bootstrap import interval, seeded_interval
from labeldep_cli.evaluation.metrics import harmonic_mean
from labeldep_cli.pipelines import reproduce as command
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.reports import paper, reproduction
from labeldep_cli.reproduction.matrix import build
from labeldep_cli.reproduction.scored import Bench
from labeldep_cli.reproduction.tables import over_seeds

SHORT = ("--steps", 4, "--batch-size", 16)
STAGES = ["baseline", "control", "wgan-gp", "no-negatives", "unconditional", "no-gumbel", "critic"]


def make_features(folder: Path) -> Path:
    """Three labels that are the signs of three features, and noise."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 5)).astype(np.float32)
    y = (x[:, :3] + 0.3 * rng.normal(size=(120, 3)) > 0).astype(np.int8)
    path = folder / "signs_50.npz"
    np.savez(path, X=x, Y=y, label_names=["a_b", "c&d", "e"])
    return path


def files_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Tables 1 and 3 over ready features, two seeds."""
    sandbox = Sandbox(tmp_path_factory.mktemp("reproduce"))
    make_features(sandbox.folder)
    words = reproduce_words(sandbox)
    found = sandbox.json(*words)
    (sandbox.folder / "printed.json").write_text(json.dumps(found))
    return sandbox


def reproduce_words(sandbox: Sandbox, out: str = "out", seeds: int = 2) -> tuple[object, ...]:
    where = ("--dataset", sandbox.folder / "signs_50.npz", "--out", sandbox.folder / out)
    return ("reproduce", *where, "--tables", "1,3", "--seeds", seeds, *SHORT)


def record(sandbox: Sandbox, number: int) -> dict[str, object]:
    return json.loads((sandbox.folder / "out" / f"table{number}.json").read_text())


def row_of(table: dict[str, object], title: str) -> dict[str, object]:
    (row,) = [row for row in table["rows"] if row["row"] == title]
    return row


def test_what_is_written(sandbox: Sandbox) -> None:
    out = sandbox.folder / "out"
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "reproduce.json",
        "runs",
        *(f"table{number}.{kind}" for number in (1, 3) for kind in ("md", "tex", "json")),
    }
    runs = {path.parent.relative_to(out / "runs").as_posix() for path in out.rglob("result.json")}
    models = {f"features-seed{seed}/{stage}" for seed in (0, 1) for stage in STAGES}
    assert models <= runs, "Tables 1 and 3 share baseline, control and WGAN-gp"
    assert "features-warp-seed1/baseline" in runs
    printed = json.loads((sandbox.folder / "printed.json").read_text())
    assert printed["tables"] == {"1": record(sandbox, 1), "3": record(sandbox, 3)}
    assert printed["gallery"] is None


def test_rows_and_columns(sandbox: Sandbox) -> None:
    table = record(sandbox, 3)
    assert [row["row"] for row in table["rows"]] == [
        "(a): Ready features",
        "Ready features, control",
        "(b): Ready features + WGAN-gp",
        "(c): (b) without negative sampling",
        "(d): (b) without conditional discriminator",
        "(e): (b) without Gumbel sigmoid",
    ]
    assert table["seeds"] == [0, 1]
    assert table["n_images"] == 28
    for row in table["rows"]:
        assert set(row["scores"]) == {*paper.COLUMNS, "mAP", "exact_match", "labels_per_image"}
        assert row["paper"] is None, "these data are not the paper's"
        assert row["decision"]["threshold"] == 0.5
    assert row_of(record(sandbox, 1), "WARP")["decision"]["k"] == 3


def test_a_cell_is_what_eval_gives(sandbox: Sandbox) -> None:
    row = row_of(record(sandbox, 1), "Ready features + WGAN-gp")
    for run, value, tuned in zip(
        row["runs"], row["scores"]["CF1"]["by_seed"], row["tuned"]["OF1"]["by_seed"], strict=True
    ):
        folder = sandbox.folder / "out" / run["run"]
        assert sandbox.json("eval", folder)["CF1"] == pytest.approx(value)
        assert sandbox.json("eval", folder, "--threshold", "tuned")["OF1"] == pytest.approx(tuned)


def test_every_network_is_scored_under_the_same_resamples(sandbox: Sandbox) -> None:
    """So a network does not differ from itself under any of them; and they are 1000, beside the sample itself."""
    where = Workspace(sandbox.folder / "data", sandbox.folder / "runs")
    source = Source(str(sandbox.folder / "signs_50.npz"))
    project = open_project(where, source, Machine(device="cpu"), SilentReporter())
    asked = ReproduceConfig()
    bench = Bench(sandbox.folder / "out", asked, project, SilentReporter())
    training = build(source.dataset, (), True, asked).tables[1][1].training
    one, again = (bench.score(training, 0, compared=True) for _ in range(2))
    assert one.ranking.shape == (1001,) and np.array_equal(one.ranking, again.ranking)
    for rule, scores in one.resampled.items():
        for metric, values in scores.items():
            assert np.array_equal(values, again.resampled[rule][metric]), (rule, metric)
    assert np.ptp(one.ranking) > 0


def test_left_out_rivals_are_listed(sandbox: Sandbox) -> None:
    left = {row["row"]: row["reason"] for row in record(sandbox, 1)["left_out"]}
    assert "regions" in left["Att-RNN"]
    assert "regions" in left["RLSD"]
    assert record(sandbox, 3)["left_out"] == [], "Table 3 has no rivals"
    assert "Left out: RLSD" in (sandbox.folder / "out" / "table1.md").read_text()


def test_the_gain_is_the_difference_of_the_rows(sandbox: Sandbox) -> None:
    table = record(sandbox, 1)
    gains = {(line["gain"], line["decision"], line["beside_decision"]): line for line in table["gain"]}
    rows = {name: row_of(table, f"Ready features{name}")["scores"] for name in ("", ", control", " + WGAN-gp")}
    for mine, theirs, words in ((" + WGAN-gp", ", control", "control"), (", control", "", "baseline")):
        line = gains[f"Ready features{mine} minus {words}", "p > 0.5", "p > 0.5"]
        for metric in ("CF1", "OF1", "exact_match", "mAP"):
            wanted = [a - b for a, b in zip(*(rows[n][metric]["by_seed"] for n in (mine, theirs)), strict=True)]
            assert line[metric]["by_seed"] == pytest.approx(wanted)
            assert line[metric]["difference"] == pytest.approx(np.mean(wanted))
            assert line[metric]["spread"] == pytest.approx(np.std(wanted, ddof=1))
            assert line[metric]["low"] <= line[metric]["difference"] <= line[metric]["high"]
    critic = "Ready features, critic at test time minus baseline"
    assert {rule for title, _, rule in gains if title == critic} == {"p > 0.5", "tuned", "tuned, never empty"}
    assert any("unconditional" in line["gain"] for line in record(sandbox, 3)["gain"])


def test_the_critic_at_test_time_is_what_eval_gives(sandbox: Sandbox) -> None:
    (line,) = [
        line
        for line in record(sandbox, 1)["gain"]
        if line["stage"] == "critic" and line["beside_decision"] == "tuned, never empty"
    ]
    for seed, difference in enumerate(line["exact_match"]["by_seed"]):
        runs = sandbox.folder / "out" / "runs" / f"features-seed{seed}"
        mine = sandbox.json("eval", runs / "critic", "--decision", "rerank")["exact_match"]
        theirs = sandbox.json("eval", runs / "baseline", "--threshold", "tuned", "--non-empty")["exact_match"]
        assert difference == pytest.approx(mine - theirs)


def test_markdown_is_a_table(sandbox: Sandbox) -> None:
    text = (sandbox.folder / "out" / "table3.md").read_text()
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2
    scores, gains = blocks
    assert len(scores) == 2 + 6
    for block in blocks:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in block}) == 1, "as many cells in every row"
    assert re.search(r"\| \d+\.\d ± \d+\.\d \|", scores[2])
    assert re.search(r"[+-]\d+\.\d ± \d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\]", gains[2])


@pytest.mark.parametrize("number", [1, 3])
def test_latex_is_balanced_and_escaped(sandbox: Sandbox, number: int) -> None:
    text = (sandbox.folder / "out" / f"table{number}.tex").read_text()
    assert r"signs\_50" in text
    assert r"95 \% interval" in text
    assert re.findall(r"(?<!\\)[_&#]", text.replace(" & ", "")) == []
    bare = re.sub(r"\\[\\{}%&_#$]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert [line for line in bare.splitlines() if "%" in line and not line.endswith("%")] == [], "no cell is a comment"
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ["table", "tabular"] * 2
    assert ended == ["tabular", "table"] * 2
    for tabular in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", text, flags=re.DOTALL):
        rows = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") for line in rows} == {len(tabular[0]) - 1}


def test_latex_of_odd_words() -> None:
    assert reproduction.latex_text(r"a_b 50 % {x} \y -1.5 top-3 ±") == (
        r"a\_b 50 \% \{x\} \textbackslash{}y $-$1.5 top-3 $\pm$"
    )


def test_the_same_command_trains_nothing_anew(sandbox: Sandbox) -> None:
    before = files_of(sandbox.folder / "out" / "runs")
    tables = {path: path.read_bytes() for path in (sandbox.folder / "out").glob("table*")}
    result = sandbox.run(*reproduce_words(sandbox))
    assert result.exit_code == 0, result.stderr
    assert "[1/" not in result.stderr
    assert "finished" not in result.stderr, "what is finished is taken up in silence"
    assert files_of(sandbox.folder / "out" / "runs") == before
    assert {path: path.read_bytes() for path in (sandbox.folder / "out").glob("table*")} == tables
    assert "The gain taken apart" in result.stdout


def test_an_interrupted_matrix_ends_with_the_same_bytes(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the sixth network, and one of the five before it that had not come to its end."""
    train, calls = Bench.train, []

    def dying(self, training, seed):
        calls.append(training.key)
        if len(calls) == 6:
            raise KeyboardInterrupt
        train(self, training, seed)

    out = sandbox.folder / "again"
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "train", dying)
        result = sandbox.run(*reproduce_words(sandbox, "again"))
    assert result.exit_code == 130
    assert "the same command (without --fresh) continues" in result.stderr
    done = {path: state for path, state in files_of(out / "runs").items() if (path.parent / "result.json").exists()}
    assert len({path.parent for path in done}) == 5
    (out / "runs" / "features-seed0" / "baseline" / "result.json").unlink()
    result = sandbox.run(*reproduce_words(sandbox, "again"))
    assert result.exit_code == 0, result.stderr
    after = files_of(out / "runs")
    kept = {path for path in done if path.parent.name != "baseline" or "warp" in path.as_posix()}
    assert kept
    assert {path: after[path] for path in kept} == {path: done[path] for path in kept}
    for number in (1, 3):
        for kind in ("json", "md", "tex"):
            name = f"table{number}.{kind}"
            assert (out / name).read_bytes() == (sandbox.folder / "out" / name).read_bytes()


def test_other_settings_in_the_same_folder_are_refused(sandbox: Sandbox) -> None:
    result = sandbox.run(*reproduce_words(sandbox), "--steps", 5, "--val-fraction", 0.2)
    assert result.exit_code == 1
    assert "--steps 4 there, 5 here" in result.stderr
    assert "--val-fraction 0.05 there, 0.2 here" in result.stderr
    assert "remove this one" in result.stderr


def test_fewer_rows_in_the_same_folder_are_not_other_settings(sandbox: Sandbox) -> None:
    plan = sandbox.json(*reproduce_words(sandbox, seeds=3), "--plan")
    assert (plan["trainings"], plan["finished"]) == (24 + 3 * cnn_rnn(), 16 + 2 * cnn_rnn())


def cnn_rnn() -> int:
    """Networks a seed beside WARP and the seven: the one other rival that features allow, if it is there."""
    titles = [row.title for row in build("x", (), True, ReproduceConfig()).tables[1]]
    return int("CNN-RNN" in titles)


@pytest.mark.parametrize(
    ("words", "told", "remedy"),
    [
        (("--tables", "2"), "Table 2 is for NUS-WIDE alone", "--tables 1"),
        (("--tables", "1", "--dataset", "nuswide"), "Table 1 is for COCO and all data sets but NUS-WIDE", "--tables 2"),
        (("--tables", "1,4"), "the paper has no table 4", "--tables 1,3"),
        (("--tables", ","), "no table is requested", "--tables 1,3"),
        (("--backbones", "resnet1o1"), "there is no backbone 'resnet1o1'", "resnet101"),
        (("--backbones", "resnet101"), "they take no backbone", "Leave --backbones out"),
        (("--full",), "holds ready features, no images", ""),
    ],
)
def test_what_does_not_fit_is_told(sandbox: Sandbox, words: tuple[str, ...], told: str, remedy: str) -> None:
    base = ("reproduce", "--dataset", sandbox.folder / "signs_50.npz", "--out", sandbox.folder / "none")
    result = sandbox.run(*base, *words)
    assert result.exit_code == 1
    assert told in result.stderr
    assert remedy in result.stderr
    assert not (sandbox.folder / "none").exists()


def test_no_list_of_tables_is_wrong_usage(sandbox: Sandbox) -> None:
    assert sandbox.run("reproduce", "--out", sandbox.folder / "none", "--tables", "one").exit_code == 2


def test_the_papers_numbers_stand_beside(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command._PAPERS, 1, (str(sandbox.folder / "signs_50.npz"), None))
    monkeypatch.setitem(command._PAPERS, 3, (str(sandbox.folder / "signs_50.npz"), None))
    words = reproduce_words(sandbox, "beside", seeds=1)
    found = sandbox.json(*words)["tables"]
    assert row_of(found["1"], "WARP")["paper"]["CF1"] == 55.7
    assert row_of(found["1"], "Ready features, control")["paper"] is None, "the paper has no control"
    text = (sandbox.folder / "beside" / "table3.md").read_text()
    lines = text.splitlines()
    (below,) = [lines[k + 1] for k, line in enumerate(lines) if line.startswith("| (c)")]
    assert [cell.strip() for cell in below.split("|")][1:9] == ["the paper", "", "", "", "62.2", "", "", "67.5"]
    assert "one seed: no spread is known" in text
    assert "±" not in text


TABLES_1_AND_2 = {
    1: {
        "vgg16": (56.0, 62.6, 60.4, 65.3),
        "inception_v3": (62.4, 67.8, 63.8, 68.2),
        "resnet101": (62.8, 68.1, 64.0, 68.2),
        "resnet152": (63.3, 68.6, 63.9, 68.6),
    },
    2: {
        "vgg16": (33.9, 66.0, 41.2, 68.1),
        "inception_v3": (53.5, 70.3, 55.8, 71.2),
        "resnet101": (53.1, 70.2, 55.4, 70.8),
        "resnet152": (52.1, 70.1, 54.1, 71.1),
    },
}
"""The paper's Tables 1 and 2: C-F1 / O-F1 of the baseline, then with WGAN-gp."""

RIVALS = {
    1: {"WARP": (55.7, 60.7), "CNN-RNN": (60.4, 67.8), "Att-RNN": (62.1, 67.7), "RLSD": (62.0, 66.5)},
    2: {"WARP": (33.5, 53.9), "CNN-RNN": (34.7, 55.2), "Att-RNN": (54.7, 70.2), "RLSD": (46.9, 60.3)},
}


@pytest.mark.parametrize("table", [1, 2])
def test_paper_numbers_are_those_of_its_tables(table: int) -> None:
    def f1s(row: str) -> tuple[float, float]:
        found = paper.numbers(table, row)
        return found["CF1"], found["OF1"]

    assert {row: (*f1s(row), *f1s(f"{row} + WGAN-gp")) for row in TABLES_1_AND_2[table]} == TABLES_1_AND_2[table]
    assert {row: f1s(row) for row in RIVALS[table]} == RIVALS[table]
    assert paper.numbers(table, "resnet18") == {}


def test_paper_numbers_of_the_ablation() -> None:
    found = {row: tuple(paper.numbers(3, f"({row})").values()) for row in "abcde"}
    assert found == {"a": (62.8, 68.1), "b": (64.0, 68.3), "c": (62.2, 67.5), "d": (62.5, 67.6), "e": (62.3, 67.1)}


def test_every_f1_of_the_paper_fits_its_precision_and_recall() -> None:
    """All within 0.13 (docs/protocol.md), but for one misprint: a number typed wrongly here would not."""
    misfits = {}
    for name, table in (("1", paper.TABLE_1), ("2", paper.TABLE_2)):
        assert len(table) == 12
        for row, (cp, cr, cf1, op, o_r, of1) in table.items():
            for kind, p, r, f1 in (("C", cp, cr, cf1), ("O", op, o_r, of1)):
                if abs(harmonic_mean(p, r) - f1) > 0.134:
                    misfits[name, row, kind] = round(harmonic_mean(p, r), 1)
    assert misfits == {("2", "inception_v3", "O"): 69.4}


def test_paper_numbers_are_those_printed() -> None:
    """The rows of Tables 1 and 2 as they stand in the paper's text, all six columns."""
    text = SHARED_DATA.parent / "paper.txt"
    if not text.is_file():
        pytest.skip("the paper's text (../shared/paper.txt) is not beside this checkout")
    lines = re.sub("</?b>", "", text.read_text()).splitlines()
    printed = [
        tuple(map(float, cells[1:])) for line in lines if len(cells := line.split("\t")) == 7 and cells[1] != "C-P"
    ]
    assert printed == [*paper.TABLE_1.values(), *paper.TABLE_2.values()]


def test_mean_and_spread_by_hand() -> None:
    """1, 2, 4: the mean is 7/3, the squared deviations 16/9 + 1/9 + 25/9 = 42/9, over n - 1 = 2: 21/9."""
    assert over_seeds([1.0, 2.0, 4.0]) == {
        "mean": pytest.approx(7 / 3),
        "spread": pytest.approx((21 / 9) ** 0.5),
        "by_seed": [1.0, 2.0, 4.0],
    }
    assert over_seeds([3.0]) == {"mean": 3.0, "spread": None, "by_seed": [3.0]}


def test_the_interval_of_one_seed_is_that_over_images() -> None:
    mine, theirs = np.concatenate([[50.0], np.arange(101.0)])[None], np.zeros((1, 102))
    found = seeded_interval(mine, theirs, seed=0)
    alone = interval(mine[0], theirs[0])
    assert (found.difference, found.low, found.high) == (alone.difference, alone.low, alone.high) == (50.0, 2.5, 97.5)
    assert found.images == (2.5, 97.5)
    assert found.spread is None


def test_the_interval_over_seeds_is_students() -> None:
    """Differences 1 and 3 whatever the images: spread sqrt 2, error 1, and t with one degree of freedom is 12.7."""
    difference = np.repeat([[1.0], [3.0]], 40001, axis=1)
    found = seeded_interval(difference, np.zeros_like(difference), seed=0)
    assert found.difference == 2.0
    assert found.spread == pytest.approx(2**0.5)
    assert found.images == (2.0, 2.0), "the images alone leave nothing open"
    assert found.low == pytest.approx(2 - 12.7, abs=1.0)
    assert found.high == pytest.approx(2 + 12.7, abs=1.0)
    assert found.by_seed == (1.0, 3.0)


def test_intervals_hold_the_truth_over_seeds_too() -> None:
    """Seeds that differ far more than images do: 95 of 100 intervals are to hold the true difference of 0."""
    held = 0
    for k in range(200):
        rng = np.random.default_rng(k)
        effects = rng.normal(0, 3, size=(3, 1))
        images = rng.normal(0, 0.5) + np.append(0, rng.normal(0, 0.5, size=400))  # one error, and its resamples
        found = seeded_interval(effects + images, np.zeros((3, 401)), seed=k)
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199


def tree(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Images, of which one test image is broken."""
    sandbox = Sandbox(tmp_path_factory.mktemp("photos"))
    make_table(sandbox.table.parent, rows=40)
    (sandbox.table.parent / "img" / "39.png").write_bytes(b"no image")
    return sandbox


PHOTOS = ("--backbones", "squeezenet1_1", "--weights", "none", "--max-skipped", 0.5, "--workers", 0, *SHORT)


def test_a_plan_touches_nothing_and_counts(photos: Sandbox) -> None:
    before = tree(photos.folder)
    words = ("reproduce", "--dataset", photos.table, "--out", photos.folder / "plan", *PHOTOS, "--plan")
    plan = photos.json(*words, "--tables", 3, "--seeds", 3)
    assert tree(photos.folder) == before
    rows = {row["title"]: row for row in plan["rows"]}
    assert len(rows) == 7, "six rows of Table 3, and the critic at test time"
    assert plan["trainings"] == 21
    assert rows["squeezenet1_1 + WGAN-gp"]["generator_updates"] == 3 * 4
    assert rows["squeezenet1_1 + WGAN-gp"]["critic_updates"] == 3 * 4 * 3
    assert rows["squeezenet1_1, control"]["critic_updates"] == 0
    assert rows["squeezenet1_1, critic at test time"]["generator_updates"] == 0
    assert plan["images_to_extract"] == 40
    assert [cache["views"] for cache in plan["caches"]] == [1, 1, 1]
    told = photos.run(*words)
    assert told.exit_code == 0
    assert "80 images to extract" in told.stdout, "as features, and for Att-RNN and RLSD as regions"


def test_a_plan_of_scenes_draws_nothing(tmp_path: Path) -> None:
    words = ("reproduce", "--dataset", "scenes", "--out", tmp_path / "out", "--plan")
    plan = Sandbox(tmp_path).json(*words)
    assert list(tmp_path.iterdir()) == []
    assert plan["rows"][0]["title"] == "WARP"
    regions = [cache for cache in plan["caches"] if "-spatial-" in cache["path"]]
    assert [cache["images"] for cache in regions] == [1600, 200, 600]
    assert plan["images_to_extract"] == 2 * (1600 + 200 + 600)
    assert Sandbox(tmp_path).json(*words, "--no-rivals")["images_to_extract"] == 1600 + 200 + 600


def test_gallery_of_images(photos: Sandbox) -> None:
    """Ten times the learning rate, so that the two networks disagree; the broken image is told, and exit is 3."""
    words = ("reproduce", "--dataset", photos.table, "--out", photos.folder / "out", *PHOTOS, "--lr", 0.05)
    before = photos.json(*words, "--plan", "--no-rivals", "--tables", 1, "--seeds", 1)
    found = photos.json(*words, "--no-rivals", "--tables", 1, "--seeds", 1, code=3)
    assert [skip["path"] for skip in found["skipped"]] == ["img/39.png"]
    gallery = found["gallery"]
    assert gallery == json.loads((photos.folder / "out" / "gallery.json").read_text())
    names = gallery["models"]
    assert names == ["squeezenet1_1", "squeezenet1_1 + WGAN-gp"]
    assert 0 < len(gallery["images"]) <= gallery["disagreeing"] <= 7
    counts = [len(set(image[names[0]]) ^ set(image[names[1]])) for image in gallery["images"]]
    assert counts == sorted(counts, reverse=True)
    assert min(counts) > 0, "only images that the two disagree on"
    truths = dict(line.split(",test,") for line in photos.table.read_text().splitlines() if ",test," in line)
    for image in gallery["images"]:
        assert [int(label in image["truth"]) for label in ("cat", "dog", "mat")] == [
            int(value) for value in truths[image["path"]].split(",")
        ]
    with Image.open(photos.folder / "out" / "gallery.png") as sheet:
        sheet.load()
        assert sheet.width > 1000
        assert len(sheet.getcolors(sheet.width * sheet.height)) > 100, "photos are on it"
    after = photos.json(*words, "--plan", "--no-rivals", "--tables", 1, "--seeds", 1)
    assert (before["finished"], after["finished"]) == (0, 4)
    assert after["images_to_extract"] == 0
    size = sum(path.stat().st_size for path in (photos.folder / "out" / "runs").rglob("*.safetensors"))
    assert after["checkpoint_megabytes"] == pytest.approx(size / 1e6, rel=0.02)
    caches = sum(path.stat().st_size for path in (photos.folder / "data" / "features").glob("*/*.h5"))
    assert after["cache_megabytes"] == pytest.approx(caches / 1e6, abs=0.05)
    photos.json(*words, "--no-rivals", "--tables", 1, "--seeds", 1, code=0)


def test_one_file_of_weights_is_one_backbones(photos: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"")
    words = ("--backbones", "squeezenet1_1,squeezenet1_0", "--weights", tmp_path / "weights.pth")
    result = photos.run("reproduce", "--dataset", photos.table, "--out", tmp_path / "out", *words)
    assert result.exit_code == 1
    assert "holds the weights of one backbone, but 2 are requested" in result.stderr


def test_full_mode(photos: Sandbox) -> None:
    """Each full-mode baseline starts from a head of its own; the same command then trains nothing."""
    words = ("--tables", 3, "--seeds", 1, "--full", *PHOTOS, "--steps", 1, "--batch-size", 4)
    command_line = ("reproduce", "--dataset", photos.table, "--out", photos.folder / "full", *words)
    first = photos.run(*command_line)
    assert first.exit_code == 3, first.stderr
    assert "the head starts from" in first.stderr
    folder = photos.folder / "full" / "runs" / "squeezenet1_1-seed0"
    before = files_of(folder)
    table = json.loads((photos.folder / "full" / "table3.json").read_text())
    assert table["protocol"]["full"] is True
    assert len(table["rows"]) == 6
    again = photos.run(*command_line)
    assert again.exit_code == 3, "it looked at the images again"
    assert files_of(folder) == before


def test_companions_have_a_control_and_a_critic_each() -> None:
    matrix = build("coco", ("vgg16", "resnet101"), False, ReproduceConfig(companions=True))
    titles = [row.title for row in matrix.tables[1]]
    for rows in (["WARP", "VGG-16"], ["VGG-16", "VGG-16, control", "VGG-16 + WGAN-gp", "Resnet-101"]):
        assert [title for title in titles if title in rows] == rows
    assert [title for title in titles if title.startswith("ASL")] == ["ASL", "ASL, control", "ASL + WGAN-gp"]
    asl = next(row.training for row in matrix.tables[1] if row.title == "ASL + WGAN-gp")
    assert asl.config(ReproduceConfig(), 2).settings() | {"loss": "asl", "critic": "wgan-gp", "seed": 2} == (
        asl.config(ReproduceConfig(), 2).settings()
    )
    assert asl.model.backbone == "vgg16", "companions take the first backbone"
    assert [row.training.model.backbone for row in matrix.tables[3]] == ["vgg16"] * 6


def test_a_critic_at_test_time_can_be_left_out(sandbox: Sandbox) -> None:
    """It is the one network of the plan that stands in no table; the gains without it are those of training."""
    words = ("reproduce", "--dataset", sandbox.folder / "signs_50.npz", "--tables", "1", "--no-rivals", *SHORT)
    told = {}
    for flag in ("--test-time", "--no-test-time"):
        told[flag] = sandbox.json(*words, flag, "--seeds", 1, "--out", sandbox.folder / f"out{flag}")
    lines = {flag: [line["gain"] for line in one["tables"]["1"]["gain"]] for flag, one in told.items()}
    assert [line for line in lines["--test-time"] if "test time" not in line] == lines["--no-test-time"]
    assert len(lines["--test-time"]) > len(lines["--no-test-time"]) == 6
    runs = {path.parent.name for path in (sandbox.folder / "out--no-test-time").rglob("result.json")}
    assert runs == {"baseline", "control", "wgan-gp"}


def test_the_paper_s_own_differences_stand_below(sandbox: Sandbox) -> None:
    """Table 1, ResNet-101: C-P falls from 76.2 to 70.5, O-F1 rises from 68.1 to 68.2; the ends are of four networks."""
    own = paper.differences(1)
    assert own["resnet101"]["CP"] == pytest.approx(-5.7) and own["resnet101"]["OF1"] == pytest.approx(0.1)
    assert set(own) == {"vgg16", "inception_v3", "resnet101", "resnet152"}
    text = (sandbox.folder / "out" / "table1.md").read_text()
    assert "C-P -11.6 to -5.2, C-R +4.0 to +13.5, C-F1 +0.6 to +4.4" in text
    assert "O-P -10.1 to -6.8, O-R +4.6 to +10.8, O-F1 +0.0 to +2.7" in text
