"""`labeldep data`: what it counts and what it finds wrong."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image

from labeldep_cli.datasets import coco, nuswide, table
from labeldep_cli.datasets.statistics import strongest_cooccurrences
from labeldep_cli.features import images
from labeldep_cli.pipelines.data import check
from labeldep_cli.progress import SilentReporter


class Bars(SilentReporter):
    """Remembers the bars it was asked for and how far they came."""

    def __init__(self):
        self.opened, self.done = [], 0

    def bar(self, what, total, unit):
        self.opened.append((what, total, unit))
        return super().bar(what, total, unit)


@pytest.fixture
def damaged(tmp_path, draw):
    """Nine rows: three good images, a copy across splits and one within, an empty, a cut, a text and an absent one."""
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        draw_image(tmp_path / name, seed)
    shutil.copy(tmp_path / "a.png", tmp_path / "a-copy.png")
    shutil.copy(tmp_path / "b.png", tmp_path / "b-copy.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    draw_image(tmp_path / "cut.jpg", 3, (300, 200))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-800])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "labels.csv").write_text(
        "path,split,sea,sky,boat\n"
        "b.png,train,1,1,0\nb-copy.png,train,1,0,0\na.png,train,0,1,-1\nempty.jpg,train,1,1,0\n"
        "c.png,val,1,0,0\ncut.jpg,val,0,1,0\n"
        "a-copy.png,test,1,1,1\ntext.jpg,test,0,0,0\ngone.jpg,test,,,\n"
    )
    return table.load(tmp_path, draw)


class TestTable:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_finds_what_is_wrong(self, damaged, workers):
        reporter = Bars()
        report = check(damaged, workers, reporter)
        assert [skipped.to_json() for skipped in report.unreadable] == [
            {"path": "empty.jpg", "reason": "empty file"},
            {"path": "cut.jpg", "reason": "truncated or broken image"},
            {"path": "text.jpg", "reason": "not an image"},
            {"path": "gone.jpg", "reason": "missing file"},
        ]
        assert report.missing == () and report.skipped == report.unreadable
        assert [group.to_json() for group in report.duplicates] == [
            {"paths": ["a.png", "a-copy.png"], "splits": ["train", "test"], "leaks": True},
            {"paths": ["b.png", "b-copy.png"], "splits": ["train", "train"], "leaks": False},
        ]
        assert reporter.opened == [("checking images", 9, "images")]

    def test_counts_labels(self, damaged):
        report = check(damaged, 0, SilentReporter())
        train, test = report.splits["train"], report.splits["test"]
        assert (train.images, train.on_disk, train.unknown) == (4, 4, 1)
        assert train.label_counts == {"sea": 3, "sky": 3, "boat": 0} and train.labels_per_image == 6 / 4
        assert (test.images, test.on_disk, test.unknown) == (3, 2, 3)
        assert test.labels_per_image == 3 / 2  # the row of which nothing is known does not count
        assert report.absent_labels == {"train": ("boat",), "val": ("boat",)}
        assert report.n_labels == 3 and not report.held_out

    def test_json(self, damaged):
        record = json.loads(json.dumps(check(damaged, 0, SilentReporter()).to_json()))
        assert list(record) == [
            "dataset", "splits", "n_labels", "labels", "ignored_columns", "constant_labels", "held_out", "missing",
            "unreadable", "duplicates", "near_identical", "absent_labels", "label_gaps", "cooccurrence",
            "corrections", "notes", "skipped", "pixels",
        ]  # fmt: skip
        assert record["splits"]["val"]["label_counts"] == {"sea": 1, "sky": 1, "boat": 0}
        assert record["dataset"] == damaged.name and record["skipped"] == record["unreadable"]

    def test_images_over_the_limit_are_not_decoded(self, tmp_path, draw, monkeypatch):
        monkeypatch.setattr(images, "MAX_PIXELS", 1000)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        (tmp_path / "labels.csv").write_text("path,sea\n" + "".join(f"{n}.png,1\n" for n in range(4)))
        for n in range(4):
            draw_image(tmp_path / f"{n}.png", n, (10, 10) if n else (40, 40))
        report = check(table.load(tmp_path, draw), 0, SilentReporter())
        assert [(s.path, s.reason) for s in report.unreadable] == [("0.png", "over 178 megapixels, not decoded")]

    def test_one_file_under_two_names_is_a_duplicate(self, tmp_path, draw):
        draw_image(tmp_path / "a.png", 0)
        (tmp_path / "labels.csv").write_text("path,split,sea\na.png,train,1\n./a.png,val,1\nb.png,test,1\n")
        (group,) = check(table.load(tmp_path, draw), 0, SilentReporter()).duplicates
        assert group.paths == ("a.png", "./a.png") and group.leaks

    def test_ready_features_have_no_images(self, shared_data, draw):
        reporter = Bars()
        report = check(table.load(shared_data / "tabular" / "yeast.npz", draw), 2, reporter)
        assert report.missing == report.unreadable == report.duplicates == () and reporter.opened == []
        assert sum(split.on_disk for split in report.splits.values()) == 2417 and report.held_out

    def test_real_photos(self, shared_data, draw):
        report = check(table.load(shared_data / "miml2000", draw), 2, SilentReporter())
        assert [split.on_disk for split in report.splits.values()] == [1200, 200, 600]
        assert report.skipped == () and round(report.splits["test"].labels_per_image, 2) == 1.21
        assert [pair.labels for pair in report.cooccurrence] == [("sea", "sunset")]


class TestCooccurrence:
    def load(self, tmp_path, draw, labels):
        names = [f"l{n}" for n in range(labels.shape[1])]
        np.savez(tmp_path / "x.npz", X=np.zeros((len(labels), 1)), Y=labels, label_names=names)
        return table.load(tmp_path / "x.npz", draw)

    def test_lift_over_all_splits(self, tmp_path, draw):
        # 100 rows; l0 in 20, l1 in 10, both in 10: lift = 100 * 10 / (20 * 10) = 5. l2 meets l0 by chance: lift 1.
        labels = np.zeros((100, 3), dtype=np.int8)
        labels[:20, 0] = labels[:10, 1] = labels[::2, 2] = 1
        (pair,) = strongest_cooccurrences(self.load(tmp_path, draw, labels))
        assert pair.to_json() == {"labels": ["l0", "l1"], "count": 10, "lift": 5.0}

    def test_pairs_seen_fewer_than_five_times_are_chance(self, tmp_path, draw):
        labels = np.zeros((100, 4), dtype=np.int8)
        labels[:4, 0] = labels[:4, 1] = labels[10:15, 2] = labels[10:15, 3] = 1
        (pair,) = strongest_cooccurrences(self.load(tmp_path, draw, labels))
        assert pair.labels == ("l2", "l3") and pair.count == 5 and pair.lift == 20

    def test_unknown_labels_count_nowhere(self, tmp_path, draw):
        # Of 100 rows l1 is known in 50: there l0 is in 10, l1 in 5, both in 5: lift = 50 * 5 / (10 * 5) = 5.
        labels = np.zeros((100, 2), dtype=np.int8)
        labels[:20, 0], labels[10:60, 1] = 1, -1
        labels[:5, 1] = 1
        (pair,) = strongest_cooccurrences(self.load(tmp_path, draw, labels))
        assert pair.lift == 5 and pair.count == 5

    def test_at_most_ten_strongest_first(self, tmp_path, draw):
        rng = np.random.default_rng(0)
        labels = (rng.random((400, 12)) < np.where(rng.random((400, 1)) < 0.3, 0.6, 0.1)).astype(np.int8)
        pairs = strongest_cooccurrences(self.load(tmp_path, draw, labels))
        lifts = [pair.lift for pair in pairs]
        assert len(pairs) == 10 and lifts == sorted(lifts, reverse=True) and lifts[-1] > 1


class TestNamed:
    def test_coco_says_that_val_was_held_out(self, shared_data, draw):
        report = check(coco.load(shared_data, draw), 2, SilentReporter())
        assert [split.images for split in report.splits.values()] == [57, 3, 99] and report.held_out
        assert report.skipped == () and report.duplicates == () and "toaster" in report.absent_labels["val"]

    def test_absent_images_of_nuswide_are_missing(self, nuswide_folder, draw):
        dataset = nuswide.load(nuswide_folder, draw)
        started = time.process_time()
        report = check(dataset, 0, SilentReporter())
        assert time.process_time() - started < 20  # 3 s on two idle cores
        assert {name: split.on_disk for name, split in report.splits.items()} == {"train": 4, "val": 4, "test": 4}
        assert len(report.missing) == 209_347 - 12 and report.unreadable == ()
        assert report.skipped[0].to_json() == {"path": report.missing[0], "reason": "missing file"}
        assert report.skipped[0].missing and dataset.splits["train"].paths[0] not in report.missing
        assert ("railroad", "train") in [pair.labels for pair in report.cooccurrence]

    def test_a_broken_image_is_unreadable_not_missing(self, shared_data, tmp_path, draw):
        shutil.copytree(shared_data / "coco" / "annotations", tmp_path / "coco" / "annotations")
        (tmp_path / "coco" / "train2014").symlink_to(shared_data / "coco" / "train2014")
        (tmp_path / "coco" / "val2014").mkdir()
        dataset = coco.load(tmp_path, draw)
        (tmp_path / "coco" / dataset.splits["test"].paths[5]).write_bytes(b"\xff\xd8\xff broken")
        report = check(dataset, 2, SilentReporter())
        assert len(report.missing) == 98 and len(report.skipped) == 99
        assert [skipped.path for skipped in report.unreadable] == [dataset.splits["test"].paths[5]]
        assert report.splits["test"].on_disk == 1
