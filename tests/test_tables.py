"""A user's own data: CSV, JSONL, COCO-format JSON and ready features."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest

from labeldep_cli.datasets import registry, table
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.formats import FORMATS, FileFormat
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import SilentReporter


def rows_of(dataset):
    """{path: (split, labels)} over all splits."""
    return {
        path: (split.name, labels.tolist())
        for split in dataset.splits.values()
        for path, labels in zip(split.paths, split.labels, strict=True)
    }


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write_file


MULTI_HOT = "path,split,sea,sunset\na.jpg,train,1,0\nb.jpg,val,,-1\nc.jpg,test,0,1\n"
EXPECTED = {"a.jpg": ("train", [1, 0]), "b.jpg": ("val", [-1, -1]), "c.jpg": ("test", [0, 1])}


class TestCsv:
    def test_multi_hot_with_splits(self, write, tmp_path, draw):
        dataset = table.load(write("mine.csv", MULTI_HOT), draw)
        assert rows_of(dataset) == EXPECTED and dataset.space.names == ("sea", "sunset")
        assert not dataset.named and not dataset.has_features and dataset.notes == () and dataset.drawn == frozenset()
        assert dataset.splits["train"].file(0) == tmp_path / "a.jpg"

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbf" + MULTI_HOT.encode(),
            MULTI_HOT.replace("\n", "\r\n").encode(),
            MULTI_HOT.replace("\n", "\n\n").encode(),
            MULTI_HOT.replace(",1", ", 1 ").encode(),
            MULTI_HOT.replace(",1", ",1.0").replace(",0", ",0.0").encode(),  # what pandas writes beside gaps
            MULTI_HOT.replace("a.jpg", '"a.jpg"').encode(),
        ],
        ids=["bom", "crlf", "blank-lines", "blanks", "pandas", "quotes"],
    )
    def test_ways_to_write_the_same(self, write, draw, content):
        assert rows_of(table.load(write("mine.csv", content), draw)) == EXPECTED

    def test_names_between_semicolons(self, write, draw):
        content = "path,split,labels\na.jpg,train,sunset; sea\nb.jpg,val,\nc.jpg,test,boat;\n"
        dataset = table.load(write("mine.csv", content), draw)
        assert dataset.space.names == ("boat", "sea", "sunset")  # sorted
        expected = {"a.jpg": ("train", [0, 1, 1]), "b.jpg": ("val", [0, 0, 0]), "c.jpg": ("test", [1, 0, 0])}
        assert rows_of(dataset) == expected

    def test_lacking_splits_are_drawn(self, write, draw):
        content = "path,sea\n" + "".join(f"{n}.jpg,{n % 2}\n" for n in range(100))
        dataset = table.load(write("mine.csv", content), draw)
        # Nearly a quarter of 100, and 5 % of the rest. The draw itself stays as it is: runs rely on it.
        assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 72, "val": 4, "test": 24}
        assert dataset.splits["val"].paths == ("0.jpg", "14.jpg", "31.jpg", "70.jpg")
        assert dataset.drawn == {"val", "test"} and len(dataset.notes) == 2 and len(rows_of(dataset)) == 100
        assert all(labels == [int(path[:-4]) % 2] for path, (_, labels) in rows_of(dataset).items())

    def test_only_val_is_drawn_where_test_is_given(self, write, draw):
        content = "path,split,sea\n" + "".join(f"{n}.jpg,{'test' if n < 5 else 'train'},1\n" for n in range(25))
        dataset = table.load(write("mine.csv", content), draw)
        assert [len(split) for split in dataset.splits.values()] == [19, 1, 5] and dataset.drawn == {"val"}

    def test_paths_may_lie_anywhere(self, write, tmp_path, draw):
        write("img/a.jpg", "x")
        content = f"path,split,sea\n../img/a.jpg,train,1\n{tmp_path}/img/b.jpg,val,1\nmit Ü,test,1\n"
        dataset = table.load(write("tables/mine.csv", content), draw)
        assert dataset.splits["train"].file(0).samefile(tmp_path / "img" / "a.jpg")
        assert dataset.splits["val"].file(0) == tmp_path / "img" / "b.jpg"
        assert dataset.splits["test"].file(0) == tmp_path / "tables" / "mit Ü"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"mine.csv is empty"),
            ("path,sea\n", r"mine.csv has no rows"),
            (
                "file,sea\na,1\n",
                r"there is no column 'path'; its columns are file, sea\nTo import it:\nlabeldep import .*mine.csv",
            ),
            ("path,split\na,train\n", r"has no label column"),
            ("path,sea,sea\na,1,1\n", r"there are two columns 'sea'"),
            (
                ",path,sea\n0,a,1\n",
                r"mine.csv, column 1: it has no name\nTo import it:\nlabeldep import .*\n.*index=False",
            ),
            ("path,labels,sea\na,x,1\n", r"beside 'labels', the column 'sea' may be labels"),
            ("path,sea,sky\na,1,1\nb,1,2\n", r"mine.csv, line 3, column 'sky': '2' is not a label value"),
            ("path,sea\na,0.5\n", r"line 2, column 'sea': '0.5' is not a label value"),
            ("path,sea\na,yes\n", r"line 2, column 'sea': 'yes' is not a label value\nIf 'sea' lists names"),
            ("path,sea\na,1\nb,1,0\n", r"line 3: 3 fields, but the header has 2"),
            ("path,sea,sky\na,1\n", r"line 2: 2 fields, but the header has 3"),
            ("path,sea\na,1\n,1\n", r"line 3: the path is empty"),
            ("path,sea\na,1\nb,1\na,0\n", r"the path 'a' is listed twice, as entries 1 and 3"),
            (
                "path,split,sea\na,train,1\nb,late,1\n",
                r"mine.csv, line 3: unknown split 'late'\n(.*\n)*A split is train",
            ),
            ("path,split,sea\na,train,1\nb,,1\n", r"line 3: 'split' is empty in some rows; which split are they in\?"),
            ("path,split,sea\na,val,1\nb,test,1\n", r"no row is in the train split"),
            ("path,labels\na,\nb,\n", r"mine.csv names no label"),
            ("path,sea\na,1\n", r"mine.csv: cannot hold out a test split of 1 rows"),
            (
                b"path,sea\ncaf\xe9.jpg,1\n",
                r"mine.csv: it is not UTF-8: byte 12 is 0xe9\nIf 'café.jpg' is right, it is cp1252:\nlabeldep import",
            ),
        ],
    )
    def test_errors_name_the_line_and_the_remedy(self, write, draw, content, message):
        with pytest.raises(DatasetError, match=message) as caught:
            table.load(write("mine.csv", content), draw)
        assert "mine.csv" in caught.value.what and caught.value.remedy


class TestJsonl:
    def test_reads_lines(self, write, draw):
        lines = [
            {"path": "a.jpg", "labels": ["sunset", "sea"], "split": "train", "source": "ignored"},
            {"path": "b.jpg", "labels": [], "split": "val"},
            {"path": "c.jpg", "labels": ["sea"], "split": "test"},
        ]
        dataset = table.load(write("mine.jsonl", "\n\n".join(json.dumps(line) for line in lines)), draw)
        assert dataset.space.names == ("sea", "sunset")
        assert rows_of(dataset) == {"a.jpg": ("train", [1, 1]), "b.jpg": ("val", [0, 0]), "c.jpg": ("test", [1, 0])}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"path": "a"', r"mine.jsonl, line 2: not valid JSON: .* column \d+"),
            ('["a"]', "line 2: not a JSON object"),
            ('{"labels": []}', "line 2: there is no 'path'"),
            ('{"path": "a", "label": ["x"]}', "line 2: there is no 'labels'"),
            ('{"path": 3, "labels": []}', "line 2: 'path' is 3, not a path"),
            ('{"path": "a", "labels": "sea"}', "'labels' is a text, such as 'sea', and not a list"),
            ('{"path": "a", "labels": ["sea", 4]}', "line 2: the label 4 is not a name"),
            ('{"path": "a", "labels": [], "split": "train"}', "line 1: only some rows have a split; this one has none"),
            ('{"path": "a", "labels": [], "fold": 1}', "line 1: only some rows have a fold; this one has none"),
            ('{"path": "a", "path": "b", "labels": []}', "line 2: the key 'path' is there twice"),
            ('{"path": "a", "labels": ["sea"], "unknown": ["sea"]}', "line 2: the label 'sea' is in 'labels' and in"),
            ('{"path": "first", "labels": []}', "the path 'first' is listed twice, as entries 1 and 2"),
        ],
    )
    def test_errors_name_the_line(self, write, draw, line, message):
        with pytest.raises(DatasetError, match=message) as caught:
            table.load(write("mine.jsonl", '{"path": "first", "labels": ["sea"]}\n' + line), draw)
        assert caught.value.remedy


class TestCocoJson:
    def test_images_lie_beside_the_file_and_unannotated_ones_stay(self, write, tmp_path, draw):
        whole = {
            "images": [{"id": n, "file_name": f"img/{n}.jpg"} for n in range(8)],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"id": n, "image_id": n, "category_id": 1} for n in range(6)],
        }
        dataset = table.load(write("mine.json", json.dumps(whole)), draw)
        rows = rows_of(dataset)
        assert len(rows) == 8 and sum(labels[0] for _, labels in rows.values()) == 6
        assert dataset.notes[0] == "2 of 8 images have no annotation: they count as images without labels"
        assert dataset.splits["train"].file(0).parent == tmp_path / "img"


class TestNames:
    def test_the_folder_names_labels_files_and_the_stem_all_others(self, write, draw):
        content = "path,sea\n" + "".join(f"{n},1\n" for n in range(8))
        labels, other = write("miml2000/labels.csv", content), write("miml2000/x y é.csv", content)
        digits = hashlib.sha256(str(labels.resolve()).encode()).hexdigest()[:6]
        assert table.load(labels, draw).name == f"miml2000-{digits}"
        assert table.load(labels.parent, draw).name == f"miml2000-{digits}"
        assert table.load(other, draw).name[:-6] == "x_y_-"

    def test_two_files_of_one_name_differ(self, write):
        names = {table.dataset_name(write(f"{folder}/labels.csv", "")) for folder in ("a/m", "b/m")}
        assert len(names) == 2 and all(name.startswith("m-") for name in names)

    def test_a_missing_file_is_told_the_near_ones(self, write, tmp_path, draw):
        write("labels.csv", MULTI_HOT)
        with pytest.raises(DatasetError, match=r"there is no file .*label.csv\nDid you mean 'labels.csv'"):
            table.load(tmp_path / "label.csv", draw)
        with pytest.raises(DatasetError, match=r"there is no file .*\nIts folder .*nowhere does not exist"):
            table.load(tmp_path / "nowhere" / "label.csv", draw)

    def test_a_folder_without_labels(self, write, tmp_path, draw):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match=r"the folder .*empty holds no labels.csv"):
            table.load(tmp_path / "empty", draw)
        file = write("other/names.csv", MULTI_HOT)
        with pytest.raises(DatasetError, match=r"holds no labels.csv\nName the file: names.csv"):
            table.load(file.parent, draw)

    def test_an_unknown_suffix(self, write, draw):
        with pytest.raises(
            DatasetError,
            match=r"labeldep does not read files with the suffix '.rows'\n(.*\n)*It reads .csv, .jsonl, .json",
        ):
            table.load(write("mine.rows", "x"), draw)
        with pytest.raises(DatasetError, match=r"with the suffix '.xlsx'\nSave the sheet as CSV"):
            table.load(write("mine.xlsx", "x"), draw)

    def test_a_new_format_is_one_row(self, write, draw, monkeypatch):
        def read(file):
            lines = [line.split() for line in file.read_text().splitlines()]
            return Rows.of_label_sets([path for path, *_ in lines], [labels for _, *labels in lines], None)

        file = write("m/labels.txt", "\n".join(f"{k}.jpg sea{' sun' * (k % 2)}" for k in range(40)))
        with pytest.raises(DatasetError, match=r"does not read files with the suffix '.txt'"):
            registry.load(str(file), file.parent, draw, SilentReporter())
        monkeypatch.setitem(FORMATS, ".txt", FileFormat("word list", read))
        dataset = registry.load(str(file), file.parent, draw, SilentReporter())
        assert dataset.space.names == ("sea", "sun") and dataset.name.startswith("m-")
        assert {path: labels for path, (_, labels) in rows_of(dataset).items()} == {
            f"{k}.jpg": [1, k % 2] for k in range(40)
        }
        with pytest.raises(
            DatasetError,
            match=r"your own: CSV, JSONL, COCO JSON, .npz of features, .h5 of features, word list or .tar\.",
        ):
            registry.load("cocoo", file.parent, draw, SilentReporter())


def features(**changes):
    """12 rows of 3 features and 2 labels, one of them unknown once."""
    arrays = {
        "X": np.arange(36, dtype=np.float64).reshape(12, 3),
        "Y": np.array([[n % 2, 1] for n in range(12)], dtype=np.int64),
        "label_names": np.array(["sea", "sky"]),
        "split": np.array(["train"] * 8 + ["val"] * 2 + ["test"] * 2),
    }
    arrays["Y"][0, 0] = -1
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def with_value(value):
    x = np.zeros((12, 3))
    x[4, 1] = x[7, 0] = value
    return x


class TestReadyFeatures:
    def save(self, file, arrays):
        if file.suffix == ".npz":
            np.savez(file, **arrays)
            return file
        with h5py.File(file, "w") as h5:
            for name, value in arrays.items():
                h5[name] = np.char.encode(value) if value.dtype.kind == "U" else value
        return file

    @pytest.mark.parametrize("suffix", [".npz", ".h5"])
    def test_reads_arrays(self, tmp_path, draw, suffix):
        dataset = table.load(self.save(tmp_path / f"mine{suffix}", features()), draw)
        train, val, test = dataset.splits.values()
        assert dataset.has_features and dataset.space.names == ("sea", "sky") and len(train) == 8
        (seen,) = test.feature_blocks()
        assert train.features.dtype == np.float32 and seen.tolist() == [[30, 31, 32], [33, 34, 35]]
        assert train.features is test.features, "one copy for all splits"
        assert train.labels.dtype == np.int8 and train.labels[0].tolist() == [-1, 1] and val.paths == ("row-8", "row-9")

    def test_draws_splits(self, tmp_path, draw):
        dataset = table.load(self.save(tmp_path / "mine.npz", features(split=None)), draw)
        assert [len(split) for split in dataset.splits.values()] == [10, 1, 1]
        row = int(dataset.splits["test"].paths[0][4:])
        assert next(dataset.splits["test"].feature_blocks())[0, 0] == 3 * row

    def test_a_part_of_a_part_keeps_its_own_rows(self, tmp_path, draw):
        """Row k has the features 3k, 3k + 1, 3k + 2; of rows 7, 5 and 2 the last and the first are taken."""
        train = table.load(self.save(tmp_path / "mine.npz", features()), draw).splits["train"]
        part = train.subset("train", np.array([7, 5, 2])).subset("val", np.array([2, 0]))
        assert part.paths == ("row-2", "row-7") and part.rows.tolist() == [2, 7]
        assert next(part.feature_blocks()).tolist() == [[6, 7, 8], [21, 22, 23]]

    def test_a_split_is_known_by_all_that_it_holds_and_by_nothing_else(self, tmp_path, draw):
        train = table.load(self.save(tmp_path / "mine.npz", features()), draw).splits["train"]
        labels, values = train.labels.copy(), train.features.copy()
        labels[3, 0], values[3, 2] = -1, 11.5
        others = [
            replace(train, labels=labels),
            replace(train, features=values),
            replace(train, space=LabelSpace(("sea", "lake"))),
            replace(train, paths=("row-12", *train.paths[1:])),
            train.subset("train", np.arange(8)[::-1]),
        ]
        assert len({split.fingerprint for split in (train, *others)}) == 6
        assert train.subset("val", np.arange(8)).fingerprint == train.fingerprint

    def test_real_features(self, shared_data, draw):
        dataset = table.load(shared_data / "tabular" / "yeast.npz", draw)
        assert sum(len(split) for split in dataset.splits.values()) == 2417 and len(dataset.space) == 14
        # Exactly a quarter, and 5 % of the rest, would leave 1722.
        assert len(dataset.splits["train"]) == 1714
        assert np.concatenate(list(dataset.splits["train"].feature_blocks())).shape == (1714, 103)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"X": None}, "X"),
            ({"label_names": None}, "label_names"),
            ({"X": np.zeros(12)}, r"the shapes do not fit: X \[12\], Y \[12, 2\], label_names \[2\]"),
            ({"X": np.zeros((11, 3))}, r"the shapes do not fit: X \[11, 3\]"),
            ({"X": np.zeros((12, 0))}, r"X has no columns"),
            ({"label_names": np.array(["a"])}, r"the shapes do not fit"),
            ({"label_names": np.array(["a", "a"])}, r"the label 'a' is used twice"),
            ({"Y": np.full((12, 2), 3)}, r"Y\[0, 0\] is 3"),
            ({"Y": np.full((12, 2), 0.5)}, r"Y\[0, 0\] is 0.5"),
            ({"X": with_value(np.nan)}, r"NaN or infinite values in 2 of 12 rows, first in row 4"),
            ({"X": with_value(1e300)}, r"NaN or infinite values in 2 of 12 rows, first in row 4"),
            ({"X": np.zeros((12, 3), dtype=complex)}, r"X is complex128 and Y int64, not numbers"),
            ({"split": np.array(["train"] * 11 + ["eval"])}, r"split\[11\]: unknown split 'eval'"),
            ({"split": np.array(["train"] * 3)}, r"split has the shape \[3\] for 12 rows"),
            ({"split": np.array(["val"] * 12)}, r"no row is in the train split"),
        ],
    )
    @pytest.mark.parametrize("suffix", [".npz", ".h5"])
    def test_errors(self, tmp_path, draw, changes, message, suffix):
        file = self.save(tmp_path / f"mine{suffix}", features(**changes))
        with pytest.raises(DatasetError, match=message) as caught:
            table.load(file, draw)
        assert "mine" in caught.value.what and caught.value.remedy

    def test_names_that_are_numbers_are_refused(self, tmp_path, draw):
        file = self.save(tmp_path / "mine.npz", features(label_names=np.array([1, 2])))
        with pytest.raises(DatasetError, match="label_names is int64, not text"):
            table.load(file, draw)

    def test_pickles_are_not_loaded(self, tmp_path, draw):
        file = self.save(tmp_path / "mine.npz", features(label_names=np.array(["sea", "sky"], dtype=object)))
        with pytest.raises(DatasetError, match=r"holds Python objects \(a pickle\), which labeldep does not load"):
            table.load(file, draw)
        (tmp_path / "raw.npz").write_bytes(pickle.dumps({"X": 1}))
        with pytest.raises(DatasetError, match=r"raw.npz"):
            table.load(tmp_path / "raw.npz", draw)

    def test_files_that_are_no_archives(self, tmp_path, draw):
        cut = self.save(tmp_path / "cut.npz", features())
        cut.write_bytes(cut.read_bytes()[:300])
        with pytest.raises(DatasetError, match=r"cut.npz cannot be read"):
            table.load(cut, draw)
        with (tmp_path / "one.npz").open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(DatasetError, match=r"one.npz is not an npz archive"):
            table.load(tmp_path / "one.npz", draw)


def test_a_large_csv_takes_seconds(tmp_path, draw):
    cells = ",".join(["0"] * 79 + ["1"])
    file = tmp_path / "large.csv"
    names = ",".join(f"l{n}" for n in range(80))
    file.write_text(f"path,{names}\n" + "".join(f"{n}.jpg,{cells}\n" for n in range(50_000)))
    dataset = table.load(file, Draw(0.05, 0.25, 0))
    assert sum(int(split.labels.sum()) for split in dataset.splits.values()) == 50_000
