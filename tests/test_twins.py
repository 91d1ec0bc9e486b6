"""Images that look the same: found, told, left out; labels that a split lacks."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sandbox import BACKBONE, Sandbox

from labeldep_cli.cli.split_checks import print_gaps, print_twins
from labeldep_cli.config import ImportConfig
from labeldep_cli.datasets import table
from labeldep_cli.datasets.label_gaps import LabelGaps
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.twins import MAX_DISTANCE, Looks, leaking, near_pairs, twin_rows
from labeldep_cli.features import near_identical
from labeldep_cli.features.check import listed_images, read_all
from labeldep_cli.features.look import look_of
from labeldep_cli.features.near_identical import looks_of
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.ingest.division import divide, with_twins
from labeldep_cli.pipelines.data import check
from labeldep_cli.progress import SilentReporter


def bits(*numbers):
    return np.array(numbers, np.uint64)


def distance(a, b):
    return (int(a) ^ int(b)).bit_count()


def encoded(image, form="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def cropped(image, share):
    width, height = image.size
    return image.crop((int(width * share), int(height * share), width, height))


SAME = {
    "re-encoded": lambda image: encoded(image, quality=50),
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice": lambda image: image.resize((image.width * 2, image.height * 2)),
    "squashed": lambda image: image.resize((224, 224)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped by 1 %": lambda image: cropped(image, 0.01),
}


def look(image: Image.Image) -> int | None:
    return look_of(image.convert("L"))


class TestLook:
    @pytest.mark.parametrize("change", SAME)
    def test_survives(self, shared_data, change):
        photos = [Image.open(path).convert("RGB") for path in sorted((shared_data / "miml2000/images").glob("*1.jpg"))]
        near = [distance(look(photo), look(SAME[change](photo))) <= MAX_DISTANCE for photo in photos[:60]]
        assert sum(near) >= 59

    @pytest.mark.parametrize("mean", [0, 128, 255])
    def test_images_of_one_colour_have_none(self, mean):
        noise = np.random.default_rng(0).normal(mean, 4, (200, 300, 3)).clip(0, 255).astype(np.uint8)
        for image in (Image.new("RGB", (300, 200), (mean,) * 3), Image.fromarray(noise)):
            assert look(image) is None and look(encoded(image, quality=40)) is None

    def test_a_faint_picture_has_one(self):
        image = Image.new("RGB", (300, 200), (120, 120, 120))
        image.paste((140, 140, 140), (50, 50, 200, 150))
        assert look(image.filter(ImageFilter.GaussianBlur(5))) is not None


class TestNearPairs:
    def test_finds_all_pairs_up_to_the_distance_and_no_other(self):
        rng = np.random.default_rng(0)
        hashes = [int(rng.integers(0, 2**63)) for _ in range(40)]
        for differing in range(10):  # near and far neighbours of each, in random bits
            base = hashes[differing]
            hashes += [base ^ sum(1 << int(b) for b in rng.choice(64, differing, replace=False)) for _ in range(20)]
        distinct = np.unique(bits(*hashes))
        expected = {
            (a, b): distance(distinct[a], distinct[b])
            for a, b in combinations(range(len(distinct)), 2)
            if distance(distinct[a], distinct[b]) <= MAX_DISTANCE
        }
        pairs = near_pairs(distinct)
        found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.distance, strict=True))
        assert found == expected and {1, 6} <= set(expected.values())

    def test_without_images(self):
        assert len(near_pairs(bits()).first) == 0 and len(near_pairs(bits(7)).first) == 0

    @pytest.mark.slow
    def test_a_hundred_thousand_images_take_seconds(self):
        hashes = np.unique(np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64))
        started = time.monotonic()
        near_pairs(hashes)
        assert time.monotonic() - started < 30  # 2 s on an idle core


class TestTwinRows:
    def test_each_image_is_in_a_pair_and_each_two_splits_too(self):
        looks = Looks.of([1, 1, 3, 1 << 40, 1, None, None], [None] * 7)
        pairs = twin_rows(looks, np.array([0, 1, 2, 0, 0, 0, 1]))
        found = set(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))
        # Rows 0, 1 and 4 have the hash 1; row 2 differs from it in one bit, row 3 in two, and rows 2 and 3 in three.
        assert found == {(0, 4, 0), (0, 1, 0), (0, 2, 1), (1, 2, 1), (0, 3, 2), (3, 1, 2), (3, 2, 3)}

    def test_images_without_a_hash_are_in_none(self):
        assert len(twin_rows(Looks.of([None, None], [b"x", b"x"]), np.array([0, 2])).first) == 0


class TestLeaking:
    FAR = (1 << 20) - 1

    def test_is_the_image_of_the_earlier_split(self):
        #               train  val      test  train far   train  test
        looks = Looks.of([0, 0b1, 0b11, self.FAR, self.FAR << 30, self.FAR << 30], [None] * 6)
        assert leaking(looks, np.array([0, 1, 2, 0, 0, 2])).tolist() == [True, True, False, False, True, False]

    def test_identical_files_of_one_colour_leak_too(self):
        looks = Looks.of([None, None, None], [b"x", b"x", b"y"])
        assert leaking(looks, np.array([0, 2, 2])).tolist() == [True, False, False]

    def test_twins_within_a_split_do_not(self):
        assert not leaking(Looks.of([5, 5, 5], [None] * 3), np.array([0, 0, 0])).any()


@pytest.fixture
def album(tmp_path, draw):
    """A photo in train and, smaller and re-encoded, in test; one twice in train with other labels; plain images."""
    for seed in range(8):
        shades = np.random.default_rng(seed).integers(0, 256, (10, 15, 3), dtype=np.uint8)
        Image.fromarray(shades).resize((240, 160), Image.Resampling.BICUBIC).save(tmp_path / f"{seed}.png")
    Image.open(tmp_path / "0.png").resize((120, 80)).save(tmp_path / "0-small.jpg", quality=70)
    Image.open(tmp_path / "1.png").save(tmp_path / "1-again.jpg", quality=70)
    shutil.copy(tmp_path / "2.png", tmp_path / "2-copy.png")
    for name, shade in (("white.png", 255), ("black.png", 0)):
        Image.new("RGB", (50, 50), (shade,) * 3).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(
        "path,split,sea,sky\n"
        "0.png,train,1,0\n1.png,train,0,1\n1-again.jpg,train,1,1\n2.png,train,0,1\nwhite.png,train,1,0\n"
        "3.png,val,1,0\n4.png,val,0,1\n2-copy.png,val,0,1\n"
        "0-small.jpg,test,1,0\n5.png,test,0,-1\nblack.png,test,0,1\n"
    )
    return table.load(tmp_path, draw)


class TestOfADataSet:
    def test_pairs_across_splits_come_first_then_those_with_other_labels(self, album):
        report = check(album, 0, SilentReporter()).near_identical
        assert [twin.paths for twin in report.twins] == [
            ("0.png", "0-small.jpg"),
            ("2.png", "2-copy.png"),
            ("1.png", "1-again.jpg"),
        ]
        assert [twin.paths for twin in report.across] == [("0.png", "0-small.jpg")], "a copy is told as a duplicate"
        assert [twin.differ for twin in report.contradicting] == [("sea",)]
        assert report.n_leaking == 2 and report.n_plain == 2

    def test_is_in_the_report_of_data(self, album, capsys):
        report = check(album, 0, SilentReporter())
        record = json.loads(json.dumps(report.to_json()))["near_identical"]
        assert (record["across_splits"], record["different_labels"], record["leaking_images"]) == (1, 1, 2)
        assert record["pairs"][0] == {
            "paths": ["0.png", "0-small.jpg"],
            "splits": ["train", "test"],
            "leaks": True,
            "distance": record["pairs"][0]["distance"],
            "same_file": False,
            "labels_differ": [],
        }
        print_twins(report.near_identical, Path("my photos/labels.csv"))
        lines = capsys.readouterr().out.splitlines()
        assert "  0.png (train) and 0-small.jpg (test)" in lines
        assert "  1.png (train) and 1-again.jpg (train): sea" in lines
        assert any("labeldep import 'my photos/labels.csv' --drop-leaks" in line for line in lines)

    def test_real_photos(self, shared_data, draw):
        """miml2000 has the same photos several times: 13 are in train or val and in a later split."""
        report = check(table.load(shared_data / "miml2000", draw), 2, SilentReporter()).near_identical
        assert len(report.across) >= 10 and report.n_leaking == 13 and report.n_plain == 0
        assert {"images/59.jpg", "images/385.jpg"} in [set(twin.paths) for twin in report.contradicting]

    def test_ready_features_have_none(self, shared_data, draw):
        dataset = table.load(shared_data / "tabular" / "yeast.npz", draw)
        assert check(dataset, 0, SilentReporter()).near_identical.twins == ()


class TestAudit:
    def test_tells_the_leaks_and_reads_no_image_for_them_again(self, album, tmp_path, monkeypatch):
        sandbox = Sandbox(tmp_path)
        words = ("audit", tmp_path / "labels.csv", *BACKBONE, "--folds", 2, "--repeats", 1, "--steps", 5)
        words = (*words, "--out", tmp_path / "audit")
        found = sandbox.json(*words)["near_identical"]
        report = check(album, 0, SilentReporter()).near_identical.to_json()
        for pair in (*report["pairs"], *found["pairs"]):
            pair.pop("distance")
        assert found == report
        monkeypatch.setattr(near_identical, "read_all", None)
        result = sandbox.run(*words)
        assert "2 images of train or val with a copy or a near-identical image in a later split" in result.stdout

    def test_another_background_is_another_look(self, tmp_path):
        known = KnownFiles(tmp_path)
        known.remember([])
        known.remember_looks("on white", {b"x" * 32: 2**64 - 1, b"y" * 32: None})
        assert known.looks("on white") == {b"x" * 32: 2**64 - 1, b"y" * 32: None}
        assert known.looks("on black") == {}


def test_data_compares_images_without_torch():
    """The import would double the time of `labeldep data` on a small data set."""
    code = "import sys, labeldep_cli.pipelines.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_copies_do_not_fill_the_terminal(tmp_path):
    lines = ["path,split,sea,sky"]
    for pair in range(12):
        for copy, split in enumerate(("train", "test")):
            Image.new("RGB", (20 + pair, 20), (pair, 0, 0)).save(tmp_path / f"{pair}-{copy}.png")
            lines.append(f"{pair}-{copy}.png,{split},{pair % 2},{1 - pair % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    told = Sandbox(tmp_path).run("data", tmp_path / "labels.csv").stdout.splitlines()
    assert sum(line.startswith("the same file: ") for line in told) == 11
    assert "the same file: 2 more groups (--json lists all)" in told


class TestImport:
    def rows(self, n, splits=None, groups=None):
        labels = np.random.default_rng(0).integers(0, 2, (n, 3)).astype(np.int8)
        return Rows([f"{row}.jpg" for row in range(n)], labels, ["a", "b", "c"], splits, groups=groups)

    def far(self, n):
        """Hashes that differ in about half of their bits."""
        return [int(number) for number in np.random.default_rng(1).integers(0, 2**63, n)]

    def test_nothing_is_done_unless_asked(self):
        rows = self.rows(20)
        assert divide(rows, ImportConfig()) is rows

    def test_leaks_of_own_splits_are_left_out(self, album):
        entries = [entry for split in album.splits.values() for entry in listed_images(split)]
        looks = looks_of(read_all(entries, USUAL_RULES, 0, SilentReporter()))
        rows = Rows(
            [entry.path for entry in entries],
            np.concatenate([split.labels for split in album.splits.values()]),
            album.space.names,
            [entry.split for entry in entries],
            folds=list(range(len(entries))),
        )
        kept = divide(rows, ImportConfig(drop_leaks=True), looks)
        assert set(rows.paths) - set(kept.paths) == {"0.png", "2.png"}
        assert len(kept.labels) == len(kept.splits) == len(kept.folds) == len(rows.paths) - 2
        assert kept.folds[kept.paths.index("black.png")] == rows.folds[rows.paths.index("black.png")]
        assert kept.notes == ("2 images of train or val left out, with a copy in a later split, such as '0.png'",)

    def test_drawn_splits_have_all_copies_on_one_side(self):
        hashes = self.far(100) * 2
        looks = Looks.of(hashes, [None] * 200)
        config = ImportConfig(draw_splits=True, drop_leaks=True, val_fraction=0.2)
        divided = divide(self.rows(200), config, looks)
        assert len(divided.paths) == 200 and set(divided.splits) == {"train", "val", "test"}
        assert divided.splits[:100] == divided.splits[100:]
        plain = divide(self.rows(200), ImportConfig(draw_splits=True), looks)
        assert plain.splits[:100] != plain.splits[100:]

    def test_drawn_folds_have_all_copies_in_one(self):
        looks = Looks.of(self.far(60) * 2, [None] * 120)
        divided = divide(self.rows(120), ImportConfig(folds=4, drop_leaks=True), looks)
        assert divided.folds[:60] == divided.folds[60:] and set(divided.folds) == set(range(4))
        assert divided.notes[-1].startswith("folds 0 to 3: ")

    def test_a_missing_val_split_is_drawn_beside_an_own_test_split(self):
        rows = self.rows(100, ["test" if row < 30 else "train" for row in range(100)])
        divided = divide(rows, ImportConfig(draw_splits=True, val_fraction=0.2))
        assert divided.splits[:30] == ["test"] * 30 and 5 < divided.splits.count("val") < 25
        assert divided.notes[0].startswith("val = ") and "may move" not in divided.notes[0]

    def test_own_splits_are_kept(self):
        rows = self.rows(9, ["train", "val", "test"] * 3)
        divided = divide(rows, ImportConfig(draw_splits=True))
        assert divided.splits == rows.splits and "no split is drawn" in divided.notes[0]

    def test_twins_join_groups(self):
        units = ["p", "p", "q", "r", "s"]
        looks = Looks.of([1, self.far(1)[0], 1, None, None], [None, None, None, b"x", b"x"])
        assert with_twins(units, looks) == ["p", "p", "p", "r", "r"]


class TestLabelGaps:
    def test_names_what_cannot_be_trained_tuned_or_scored(self, tmp_path, draw, capsys):
        (tmp_path / "labels.csv").write_text(
            "path,split,a,b,c,d\n"
            "0.jpg,train,0,1,1,1\n1.jpg,train,0,0,1,1\n"
            "2.jpg,val,1,1,0,1\n3.jpg,val,0,1,-1,0\n"
            "4.jpg,test,1,0,1,1\n5.jpg,test,0,1,1,0\n"
        )
        gaps = LabelGaps.of(table.load(tmp_path, draw))
        assert gaps.to_json() == {"untrainable": ["a"], "untunable": ["b", "c"], "unscored": ["c"]}
        print_gaps(gaps)
        assert capsys.readouterr().out.splitlines() == [
            "untrainable labels (not in train, cannot be learnt): 1: a",
            "untunable labels (in no or in every image of val, no threshold can be chosen): 2: b, c",
            "unscored labels (in no or in every image of test, cannot be scored): 1: c",
        ]

    def test_a_split_without_rows_lacks_nothing(self, shared_data, draw):
        gaps = LabelGaps.of(table.load(shared_data / "miml2000", draw))
        assert gaps == LabelGaps((), (), ())


class TestImportCommand:
    @pytest.fixture
    def sandbox(self, album, tmp_path):
        table_of_splits = (tmp_path / "labels.csv").read_text().splitlines()
        lines = [line.replace(",-1", ",1") for line in table_of_splits]
        (tmp_path / "split.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "unsplit.csv").write_text(
            "\n".join(",".join(field for k, field in enumerate(line.split(",")) if k != 1) for line in lines) + "\n"
        )
        return Sandbox(tmp_path)

    def test_leaks_are_left_out_and_said(self, sandbox, tmp_path):
        out = tmp_path / "out.csv"
        found = sandbox.json("import", tmp_path / "split.csv", "--drop-leaks", "--out", out)
        assert found["rows"] == 9 and any("2 images of train or val left out" in said for said in found["understood"])
        record = sandbox.json("data", out)
        assert record["near_identical"]["leaking_images"] == 0
        assert record["near_identical"]["different_labels"] == 1, "twins with different labels in one split are kept"

    def test_a_copy_with_more_than_8_bits_is_left_out_too(self, sandbox, tmp_path):
        """Import is told no value range."""
        grey = np.asarray(Image.open(tmp_path / "0.png").convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(tmp_path / "0.png")
        out = tmp_path / "out.csv"
        assert sandbox.json("import", tmp_path / "split.csv", "--drop-leaks", "--out", out)["rows"] == 9

    def test_the_line_that_data_prints_works(self, sandbox, tmp_path):
        result = sandbox.run("data", tmp_path / "split.csv")
        (line,) = [line for line in result.stdout.splitlines() if "labeldep import" in line]
        assert sandbox.run(*shlex.split(line.split(": ", 1)[1])[1:]).exit_code == 0

    def test_folds_are_drawn_and_then_tested_on(self, sandbox, tmp_path):
        out = tmp_path / "out.csv"
        found = sandbox.json("import", tmp_path / "unsplit.csv", "--folds", 3, "--drop-leaks", "--out", out)
        assert (found["rows"], found["folds"]) == (11, 3)
        tested = [sandbox.json("data", out, "--fold", fold)["splits"]["test"]["images"] for fold in range(3)]
        assert sum(tested) == 11 and min(tested) >= 2

    def test_splits_are_drawn_and_written(self, sandbox, tmp_path):
        out = tmp_path / "out.csv"
        words = ("--draw-splits", "--val-fraction", 0.3, "--test-fraction", 0.3, "--split-seed", 1)
        found = sandbox.json("import", tmp_path / "unsplit.csv", *words, "--out", out)
        assert min(found["splits"].values()) >= 1 and sum(found["splits"].values()) == 11
        record = sandbox.json("data", out, "--split-seed", 5)
        assert {name: split["images"] for name, split in record["splits"].items()} == found["splits"]

    def test_ready_features_are_divided_but_not_compared(self, shared_data, sandbox, tmp_path):
        words = ("import", shared_data / "tabular" / "yeast.npz", "--folds", 4)
        assert sandbox.json(*words, "--out", tmp_path / "yeast.npz")["folds"] == 4
        tested = sandbox.json("data", tmp_path / "yeast.npz", "--fold", 3)["splits"]["test"]["images"]
        assert abs(tested - 2417 / 4) < 25
        result = sandbox.run(*words, "--drop-leaks", "--out", tmp_path / "no.npz")
        assert result.exit_code == 1 and "no images that could be compared" in result.stderr
