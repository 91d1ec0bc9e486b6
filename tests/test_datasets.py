"""COCO and NUS-WIDE against the full label matrices, the table of names, and the draws that make splits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labeldep_cli.datasets import coco, nuswide, registry
from labeldep_cli.datasets.draw import Draw, complete, hold_out, hold_out_by_name
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import SilentReporter


def write_coco(path: Path, **changes) -> Path:
    """Two categories given out of order, three images of which the second has no annotation, one crowd."""
    whole = {
        "images": [{"id": 7, "file_name": "c.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": 5, "file_name": "b.jpg"}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "segmentation": [[1.5, 2.5]], "bbox": [0, 0, 1, 1]},
            {"id": 2, "image_id": 7, "category_id": 9, "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 4, "iscrowd": 1, "segmentation": {"counts": [3, 4]}},
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole | changes))
    return path


class TestCocoJson:
    def test_sorts_images_and_categories_by_id_and_counts_crowds(self, tmp_path):
        found = coco.load_json(write_coco(tmp_path / "a.json"))
        assert found.image_ids == (2, 5, 7)
        assert found.files == ("a.jpg", "b.jpg", "c.jpg")
        assert found.space.names == ("cat", "dog") and found.category_ids == (4, 9)
        assert found.labels.tolist() == [[1, 0], [0, 0], [0, 1]] and found.labels.dtype == np.int8
        assert found.annotated.tolist() == [True, False, True]

    def test_says_nothing_on_stdout(self, tmp_path, capsys):
        coco.load_json(write_coco(tmp_path / "a.json"))
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"images": "none"}, "has no list 'images'"),
            ({"categories": None}, "has no list 'categories'"),
            ({"images": [{"file_name": "a.jpg"}]}, "lacks the key 'id'"),
            ({"images": [{"id": 1}]}, "image 1 has no file_name"),
            (
                {"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]},
                "the id 1 is used twice .* images",
            ),
            ({"images": [{"id": 2, "file_name": "a"}, {"id": 7, "file_name": "a"}]}, "'a' is listed twice"),
            ({"images": [{"id": 2, "file_name": "a"}, {"id": "7", "file_name": "b"}]}, "partly numbers, partly str"),
            ({"categories": [{"id": 9, "name": "x"}, {"id": 4, "name": "x"}]}, "a.json: two categories are called 'x'"),
            ({"categories": [{"id": 9, "name": "x"}]}, "annotation 3 has the category_id 4, which is not listed"),
            ({"images": [{"id": 7, "file_name": "a"}]}, "annotation 3 has the image_id 2, which is not listed"),
            ({"annotations": [3]}, "is not in COCO's format"),
        ],
    )
    def test_refuses_what_is_not_coco(self, tmp_path, changes, message):
        with pytest.raises(DatasetError, match=message) as caught:
            coco.load_json(write_coco(tmp_path / "a.json", **changes))
        assert "a.json" in caught.value.what and caught.value.remedy

    def test_refuses_broken_files(self, tmp_path):
        cut = write_coco(tmp_path / "cut.json")
        cut.write_text(cut.read_text()[:-20])
        with pytest.raises(DatasetError, match=r"cut\.json is not valid JSON: .* at line 1, column \d+"):
            coco.load_json(cut)
        (tmp_path / "latin.json").write_bytes(b'{"images": "\xe9"}')
        with pytest.raises(DatasetError, match=r"latin\.json is not UTF-8 \(byte 12\)"):
            coco.load_json(tmp_path / "latin.json")
        (tmp_path / "list.json").write_text("[]")
        with pytest.raises(DatasetError, match=r"list\.json: it is not in COCO's format: it has no list 'images'"):
            coco.load_json(tmp_path / "list.json")
        with pytest.raises(DatasetError, match="there is no file"):
            coco.load_json(tmp_path / "none.json")


class TestCoco:
    @pytest.mark.parametrize("year", ["train2014", "val2014"])
    def test_labels_equal_the_full_matrix(self, shared_data, year):
        full = np.load(shared_data / "labels" / f"coco_{year}.npz")
        found = coco.load_json(shared_data / "coco" / "annotations" / f"instances_{year}.json")
        row_of = {image_id: row for row, image_id in enumerate(full["image_id"].tolist())}
        expected = full["Y"][[row_of[image_id] for image_id in found.image_ids]]
        assert found.space.names == tuple(full["names"]) and found.category_ids == tuple(full["category_id"].tolist())
        assert np.array_equal(found.labels, expected)

    def test_holds_val_out_of_train2014_and_tests_on_val2014(self, shared_data, draw):
        dataset = coco.load(shared_data, draw)
        assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 57, "val": 3, "test": 99}
        assert dataset.name == "coco" and dataset.named and dataset.drawn == {"val"} and len(dataset.space) == 80
        assert dataset.split("test").root == shared_data / "coco"
        everything = dataset.splits["train"].paths + dataset.splits["val"].paths
        assert len(set(everything)) == 60 and "train2014/COCO_train2014_000000000790.jpg" in everything
        assert list(dataset.splits["train"].paths) == sorted(dataset.splits["train"].paths)
        assert all(split.file(0).is_file() for split in dataset.splits.values())
        again, other = coco.load(shared_data, draw), coco.load(shared_data, Draw(0.05, 0.25, seed=1))
        assert again.splits["val"].paths == dataset.splits["val"].paths != other.splits["val"].paths

    def test_leaves_out_and_counts_images_without_annotation(self, tmp_path, draw):
        for year in ("train2014", "val2014"):
            write_coco(tmp_path / "coco" / "annotations" / f"instances_{year}.json")
        dataset = coco.load(tmp_path, draw)
        assert sum(len(split) for split in dataset.splits.values()) == 4
        assert dataset.splits["test"].paths == ("val2014/a.jpg", "val2014/c.jpg")
        assert "1 of 3 images of train2014 have no annotation and are left out" in dataset.notes
        assert any("the image folder" in note and note.endswith("train2014 is missing") for note in dataset.notes)

    def test_says_what_is_missing_and_how_to_get_it(self, shared_data, tmp_path, draw):
        with pytest.raises(DatasetError, match=r"instances_train2014\.json is missing") as caught:
            coco.load(tmp_path, draw)
        for part in (
            "http://images.cocodataset.org/zips/train2014.zip (13.5 GB)",
            "http://images.cocodataset.org/zips/val2014.zip (6.6 GB)",
            "http://images.cocodataset.org/annotations/annotations_trainval2014.zip (0.24 GB)",
            f"unpack all three in {tmp_path / 'coco'}",
            "--data-dir",
            "data/README.md",
        ):
            assert part in caught.value.remedy
        (tmp_path / "coco" / "annotations").mkdir(parents=True)
        train = shared_data / "coco" / "annotations" / "instances_train2014.json"
        shutil.copy(train, tmp_path / "coco" / "annotations")
        with pytest.raises(DatasetError, match=r"instances_val2014\.json is missing"):
            coco.load(tmp_path, draw)

    def test_refuses_years_that_disagree(self, tmp_path, draw):
        write_coco(tmp_path / "coco" / "annotations" / "instances_train2014.json")
        categories = [{"id": 9, "name": "wolf"}, {"id": 4, "name": "cat"}]
        write_coco(tmp_path / "coco" / "annotations" / "instances_val2014.json", categories=categories)
        with pytest.raises(DatasetError, match=r"the categories of train2014 and val2014 .* differ"):
            coco.load(tmp_path, draw)


def write_nuswide(data_dir: Path, labels: list[list[int]], end: str = "\n") -> Path:
    """A small NUS-WIDE of two concepts; image n is `sky\\n.jpg`, the even ones are in the official train list."""
    root = data_dir / "nuswide"
    for folder in ("ImageList", "ConceptsList", "Groundtruth/AllLabels", "Flickr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    images = [f"sky\\{n}.jpg" for n in range(len(labels))]
    for name, lines in (("Imagelist", images), ("TrainImagelist", images[::2]), ("TestImagelist", images[1::2])):
        (root / "ImageList" / f"{name}.txt").write_bytes((end.join(lines) + end).encode())
    (root / "ConceptsList" / "Concepts81.txt").write_bytes(end.join(["sky", "dog", ""]).encode())
    for column, concept in enumerate(("sky", "dog")):
        values = end.join(str(row[column]) for row in labels) + end
        (root / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt").write_bytes(values.encode())
    return root


DOG, ALL, TEST = "Groundtruth/AllLabels/Labels_dog.txt", "ImageList/Imagelist.txt", "ImageList/TestImagelist.txt"
LABELS = [[1, 0], [0, 1], [0, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1]]  # rows 2 and 5 have no concept


def all_rows(dataset) -> dict[str, list[int]]:
    return {
        path: labels.tolist()
        for split in dataset.splits.values()
        for path, labels in zip(split.paths, split.labels, strict=True)
    }


class TestNusWide:
    def test_the_full_lists_give_the_papers_numbers(self, nuswide_folder, shared_data, draw):
        dataset = nuswide.load(nuswide_folder, draw)
        train, val, test = dataset.splits.values()
        assert len(train) + len(val) == 150_000 and len(val) == 7_500 and len(test) == 59_347
        assert len({*train.paths, *val.paths, *test.paths}) == 209_347
        assert dataset.name == "nuswide" and dataset.named and dataset.drawn == {"val", "test"}
        assert "60301 of 269648 images have no concept and are left out" in dataset.notes
        full = np.load(shared_data / "labels" / "nuswide_all.npz")
        assert dataset.space.names == tuple(full["names"])
        rows = [int(path.rpartition("_")[2][:-4]) - 1000 for path in test.paths]  # the fixture's names hold the row
        assert rows == sorted(rows) and np.array_equal(test.labels, full["Y"][rows])

    def test_the_draw_hangs_on_the_seed_alone(self, nuswide_folder, draw):
        first = nuswide.load(nuswide_folder, draw).splits["test"].ids_hash
        again = nuswide.load(nuswide_folder, Draw(0.2, 0.5, seed=0)).splits["test"].ids_hash
        other = nuswide.load(nuswide_folder, Draw(0.05, 0.25, seed=1)).splits["test"].ids_hash
        assert first == again != other

    def test_the_official_lists(self, nuswide_folder, shared_data, draw):
        dataset = nuswide.load_official(nuswide_folder, draw)
        annotated = np.load(shared_data / "labels" / "nuswide_all.npz")["Y"].any(axis=1)
        train, val, test = dataset.splits.values()
        assert len(test) == annotated[::5].sum() and len(train) + len(val) == 209_347 - len(test)
        assert dataset.name == "nuswide-official" and dataset.drawn == {"val"}

    @pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
    def test_reads_any_line_end_and_keeps_the_proportion(self, tmp_path, draw, end):
        write_nuswide(tmp_path, LABELS, end)
        dataset = nuswide.load(tmp_path, draw)
        assert [len(split) for split in dataset.splits.values()] == [3, 1, 2]  # 6 * 59,347 / 209,347 = 1.7
        assert all_rows(dataset) == {f"sky/{n}.jpg": row for n, row in enumerate(LABELS) if any(row)}
        assert dataset.splits["train"].file(0).parent == tmp_path / "nuswide" / "Flickr" / "sky"

    def test_official_rows_carry_their_own_labels(self, tmp_path, draw):
        write_nuswide(tmp_path, LABELS)
        dataset = nuswide.load_official(tmp_path, draw)
        assert dataset.splits["test"].paths == ("sky/1.jpg", "sky/3.jpg", "sky/7.jpg")
        assert dataset.splits["test"].labels.tolist() == [[0, 1], [1, 1], [1, 1]]
        assert all_rows(dataset) == {f"sky/{n}.jpg": row for n, row in enumerate(LABELS) if any(row)}
        assert "2 of 8 images have no concept and are left out" in dataset.notes

    def test_accepts_label_files_without_the_groundtruth_folder(self, tmp_path, draw):
        root = write_nuswide(tmp_path, LABELS)
        (root / "Groundtruth" / "AllLabels").rename(root / "AllLabels")
        assert len(nuswide.load(tmp_path, draw).splits["test"]) == 2

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            (DOG, "0\n1\n0\n", r"Labels_dog.txt has 3 lines, but .*Imagelist.txt names 8"),
            (DOG, "0\n1\n2\n0\n0\n0\n0\n0\n", r"Labels_dog.txt, line 3: '2' is neither"),
            (DOG, "0\n1\n\n0\n0\n0\n0\n0\n", r"Labels_dog.txt, line 3: '' is neither"),
            (ALL, "sky\\0.jpg\nsky\\1.jpg\nsky\\0.jpg\n", r"sky/0.jpg is listed twice, in lines 1 and 3"),
            (ALL, "", r"Imagelist.txt is empty"),
            (ALL, "a\n\nb\n", r"Imagelist.txt, line 2: the line is blank"),
            (TEST, "sky\\1.jpg\nsky\\99.jpg\n", r"TestImagelist.txt, line 2: sky/99.jpg is not in"),
            (TEST, "sky\\1.jpg\nsky\\2.jpg\n", r"1 images are in both .* first is sky/2.jpg"),
            ("ConceptsList/Concepts81.txt", "sky\nsky\n", r"Concepts81.txt: the label 'sky' is used twice"),
        ],
    )
    def test_names_the_file_and_the_first_bad_line(self, tmp_path, draw, file, content, message):
        root = write_nuswide(tmp_path, LABELS)
        (root / file).write_text(content)
        with pytest.raises(DatasetError, match=message) as caught:
            nuswide.load_official(tmp_path, draw)
        assert caught.value.remedy

    @pytest.mark.parametrize(
        "file",
        [
            "ImageList/Imagelist.txt",
            "ImageList/TrainImagelist.txt",
            "ConceptsList/Concepts81.txt",
            "Groundtruth/AllLabels/Labels_sky.txt",
        ],
    )
    def test_says_what_is_missing_and_how_to_get_it(self, tmp_path, draw, file):
        root = write_nuswide(tmp_path, LABELS)
        (root / file).unlink()
        with pytest.raises(DatasetError, match=f"NUS-WIDE's file .*{Path(file).name} is missing") as caught:
            nuswide.load_official(tmp_path, draw)
        for part in ("ImageList.zip", "Groundtruth.zip", "ConceptsList.zip", "Flickr/", "--data-dir", "data/README.md"):
            assert part in caught.value.remedy


class Notes(SilentReporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class TestRegistry:
    def test_names_load_and_notes_are_told(self, shared_data, draw):
        reporter = Notes()
        dataset = registry.load("coco", shared_data, draw, reporter)
        assert dataset.name == "coco" and reporter.notes == list(dataset.notes) and reporter.notes

    def test_a_misspelt_name_is_told_the_near_ones(self, tmp_path, draw):
        with pytest.raises(DatasetError, match="there is no data set 'nuswde'\nDid you mean 'nuswide'"):
            registry.load("nuswde", tmp_path, draw, SilentReporter())

    def test_what_looks_like_a_path_is_one(self, tmp_path, draw, monkeypatch):
        for name in ("some/table", "table.csv", "features.H5"):
            with pytest.raises(DatasetError, match="there is no file"):
                registry.load(name, tmp_path, draw, SilentReporter())
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "labels.csv").write_text("path,sea\n" + "".join(f"{n}.jpg,1\n" for n in range(8)))
        monkeypatch.chdir(tmp_path)
        assert registry.load("mine", tmp_path, draw, SilentReporter()).name.startswith("mine-")

    def test_the_four_rows(self):
        assert list(registry.DATASETS) == ["coco", "nuswide", "nuswide-official", "scenes"]
        assert all(row.help for row in registry.DATASETS.values())

    def test_importing_it_costs_no_numpy(self):
        code = "import sys, labeldep_cli.datasets.registry; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestHoldOut:
    @pytest.mark.parametrize(("n", "fraction", "held"), [(10, 0.3, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1)])
    def test_takes_the_nearest_number_of_rows_that_leaves_some_on_both_sides(self, n, fraction, held):
        kept, out = hold_out(n, fraction, 0, "val")
        assert len(out) == held and sorted([*kept, *out]) == list(range(n))
        assert kept.tolist() == sorted(kept) and out.tolist() == sorted(out)

    def test_two_draws_with_one_seed_are_apart(self):
        """Of 1000 rows 250 for test and 250 for val: they share about a quarter of these, 62, and not all."""
        (_, test), (_, val) = hold_out(1000, 0.25, 0, "test"), hold_out(1000, 0.25, 0, "val")
        assert 40 <= len(np.intersect1d(test, val)) <= 85
        assert np.array_equal(hold_out(1000, 0.25, 0, "val")[1], val)


class TestHoldOutByName:
    NAMES = tuple(f"img/{row}.jpg" for row in range(20_000))

    @pytest.mark.parametrize("fraction", [0.05, 0.25, 0.9])
    def test_meets_the_fraction_nearly(self, fraction):
        """Within five standard deviations of n * fraction."""
        kept, held, *_ = hold_out_by_name(self.NAMES, fraction, 0, "val")
        n = len(self.NAMES)
        assert sorted([*kept, *held]) == list(range(n))
        assert kept.tolist() == sorted(kept) and held.tolist() == sorted(held)
        assert abs(len(held) - n * fraction) < 5 * (n * fraction * (1 - fraction)) ** 0.5

    def test_rows_that_are_added_anywhere_or_removed_move_no_other(self):
        def held_of(names):
            return {names[row] for row in hold_out_by_name(names, 0.25, 0, "test").held_out}

        few = self.NAMES[:50]
        before = held_of(few)
        grown = (*self.NAMES[50:55], *reversed(few), *self.NAMES[55:60])
        assert held_of(grown) & set(few) == before
        assert held_of(few[10:]) == before & set(few[10:])

    def test_seed_and_purpose_draw_apart(self):
        """Two independent quarters of 20,000 rows share a sixteenth: 1,250 rows."""
        first = hold_out_by_name(self.NAMES, 0.25, 0, "test").held_out
        for seed, purpose in ((1, "test"), (0, "val")):
            shared = np.intersect1d(first, hold_out_by_name(self.NAMES, 0.25, seed, purpose).held_out)
            assert abs(len(shared) - 1250) < 200

    @pytest.mark.parametrize("names", [("a", "b"), tuple("abcdefgh")])
    @pytest.mark.parametrize("fraction", [0.0, 1e-9, 0.5, 0.9999999])
    def test_leaves_a_row_on_either_side(self, names, fraction):
        kept, held, *_ = hold_out_by_name(names, fraction, 0, "val")
        assert len(kept) and len(held)

    @pytest.mark.parametrize("fraction", [0.05, 0.9])
    def test_only_a_forced_row_may_move_when_rows_are_added(self, fraction):
        moved = 0
        for seed in range(200):
            few, more = (hold_out_by_name(self.NAMES[:n], fraction, seed, "test") for n in (8, 30))
            change = set(few.held_out.tolist()) ^ {row for row in more.held_out.tolist() if row < 8}
            assert len(change) <= few.forced
            moved += len(change)
        assert moved > 10, "the hashes leave a side empty with a probability of 0.66 or 0.43"

    @pytest.mark.parametrize(("n", "forced"), [(12, True), (2000, False)])
    def test_the_note_promises_only_what_holds(self, n, forced):
        names = next(
            names
            for names in ([f"{start + row}.jpg" for row in range(n)] for start in range(100))
            if hold_out_by_name(names, 0.05, 0, "val").forced == forced
        )
        space = LabelSpace(("a",))
        rows = {
            name: Split(name, tuple(paths), np.ones((len(paths), 1), np.int8), space, Path())
            for name, paths in (("train", names), ("test", ["t.jpg"]))
        }
        _, (note,) = complete(rows, Draw(0.05, 0.25, 0))
        assert ("added rows may move one" in note) == forced

    def test_one_row_cannot_be_shared_out(self):
        with pytest.raises(DatasetError, match="cannot hold out a val split of 1 rows"):
            hold_out_by_name(("a",), 0.5, 0, "val")


def test_ten_added_photos_move_no_row_of_a_drawn_split(tmp_path, draw):
    """50 rows become 60: train, val and test keep every row that they had."""

    def splits(rows):
        lines = [f"img/{row}.jpg,{'sea' if row % 2 else 'sky'}" for row in rows]
        (tmp_path / "labels.csv").write_text("\n".join(["path,labels", *lines]) + "\n")
        dataset = registry.load(str(tmp_path), tmp_path, draw, SilentReporter())
        assert [note.split(" ")[0] for note in dataset.notes] == ["test", "val"]
        for note, name in zip(dataset.notes, ("test", "val"), strict=True):
            assert f"{name} = {len(dataset.splits[name])} of " in note
        return {name: set(split.paths) for name, split in dataset.splits.items()}

    before, after = splits(range(50)), splits(range(60))
    assert all(before[name] <= after[name] for name in before)
    assert sum(map(len, after.values())) == 60
