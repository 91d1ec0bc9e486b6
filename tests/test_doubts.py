"""A file that leaves a question open stops, and names the command that answers it; a plain one is never asked."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from labeldep_cli.config.reading import read_names
from labeldep_cli.datasets import canonical, csv_file, jsonl_file, table
from labeldep_cli.datasets.canonical import write_table
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, combined
from labeldep_cli.datasets.doubts.names import merged_names, names_doubt, suspected_separator
from labeldep_cli.datasets.doubts.remedies import import_command
from labeldep_cli.datasets.doubts.values import BLANK, MINUS_ONE, UNSURE, ValueCounts, code_of, values_doubt
from labeldep_cli.datasets.label_cells import read_cells
from labeldep_cli.datasets.missing_images import require_some_images
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError


def commands(error: DatasetError) -> list[str]:
    return [line for line in error.remedy.splitlines() if line.startswith("labeldep ")]


def answers(doubt: Doubt | None) -> list[dict[str, object]]:
    return [] if doubt is None else [dict(answer.flags) for answer in doubt.answers]


def asked(file: Path, *flags: str) -> None:
    """Reading the file stops, and one of the commands has exactly these flags."""
    with pytest.raises(DatasetError) as caught:
        (jsonl_file if file.suffix == ".jsonl" else csv_file).read(file)
    found = [shlex.split(line) for line in commands(caught.value)]
    assert ["labeldep", "import", str(file), *flags, "--out", str(file.parent / "labels.csv")] in found, caught.value


@pytest.fixture
def write(tmp_path):
    def write_file(content: str, name: str = "a.csv") -> Path:
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        return tmp_path / name

    return write_file


class TestCommands:
    def test_flags_as_the_command_line_reads_them(self, tmp_path):
        file = tmp_path / "a b.csv"
        line = import_command(
            file, label_separator="|", merge_alike=True, quotes=False, form="nih", nothing=("a, b", "-")
        )
        words = shlex.split(line)
        assert words[:3] == ["labeldep", "import", str(file)] and words[-2:] == ["--out", str(tmp_path / "labels.csv")]
        assert words[3:-2] == [
            "--label-separator", "|", "--merge-alike", "--no-quotes", "--format", "nih", "--nothing", '"a, b",-',
        ]  # fmt: skip
        assert read_names('"a, b",-') == ("a, b", "-")

    def test_nothing_is_overwritten(self, tmp_path):
        for taken in ("labels.csv", "a-labels.csv"):
            (tmp_path / taken).touch()
        assert import_command(tmp_path / "a.csv").endswith("a-labels-2.csv")
        assert import_command(tmp_path / "a.npz", standardize=True).endswith(
            "--standardize --out " + str(tmp_path / "a-ready.npz")
        )

    def test_several_questions_are_answered_by_one_line(self):
        first = Doubt(
            "one?", (Answer("If a", {"x": 1, "ignore_columns": ("p",)}), Answer("If b", {"x": 2})), place="line 3"
        )
        second = Doubt("two?", (Answer("If c", {"y": 3, "ignore_columns": ("q",)}),))
        both = combined((first, None, second))
        assert both is not None and both.what == "one?; two?" and both.place == "line 3"
        assert answers(both) == [
            {"x": 1, "ignore_columns": ("p", "q"), "y": 3},
            {"x": 2, "y": 3, "ignore_columns": ("q",)},
        ]
        assert both.answers[0].words == "If a, and if c"
        assert str(both.error(Path("f.csv"))).startswith(
            "f.csv, line 3: one?; two?\nIf a, and if c:\nlabeldep import f.csv"
        )


class TestCells:
    @pytest.mark.parametrize(
        ("cells", "sets"),
        [
            (["sea;sky", " sea ;", ";", ""], [["sea", "sky"], ["sea"], [], []]),
            (['["sea", "sky"]', "['sea']", "('sky',)", "{'sky', 'sea'}", "[]", "set()"],
             [["sea", "sky"], ["sea"], ["sky"], ["sea", "sky"], [], []]),
            (['{"choices": ["sea", "sky"]}', "sea"], [["sea", "sky"], ["sea"]]),
            (["{sea,sky}", '{"blue sky",sea}', "{}"], [["sea", "sky"], ["blue sky", "sea"], []]),
            (["[sea, sky]", "[sea]"], [["sea", "sky"], ["sea"]]),
            (["[sea, sky]", "sea"], [["[sea, sky]"], ["sea"]]),  # brackets in one name only are part of it
            (["[sea];[sky]", "[sea]"], [["[sea]", "[sky]"], ["[sea]"]]),
        ],
    )  # fmt: skip
    def test_lists(self, cells, sets):
        read = read_cells(cells)
        assert read.label_sets == sets and not read.numbers and not read.odd

    @pytest.mark.parametrize(
        ("cells", "width"),
        [(["[1, 0, 1]", "[0, 0, 0]"], 3), (["1 0 1", "0,0,0"], 3), (["[25, 0]", "[3]"], None), (["[2, 0]"], None)],
    )
    def test_numbers_have_no_names(self, cells, width):
        read = read_cells(cells)
        assert read.numbers and read.multi_hot_width == width

    def test_an_object_is_no_list(self):
        assert read_cells(['{"sea": 1, "sky": 0}', "sea"]).odd == '{"sea": 1, "sky": 0}'


def counted(*cells: str) -> tuple[Counter[str], bool]:
    read = read_cells(cells)
    return Counter(name for names in read.label_sets for name in set(names)), read.separated


class TestNames:
    @pytest.mark.parametrize(
        ("cells", "separator"),
        [
            (("sea|sky", "sea", "sky"), "|"),
            (("sea, sky", "sky,boat", "sea", "boat"), ","),
            (("sea sky", "sky boat", "boat sea", "sea"), " "),
            (("sea/sky", "sky/boat", "boat/sea", "sky", "boat"), "/"),
            (("25 0", "7", "3 12"), " "),
            (("sea\tsky", "sky", "sea"), "\t"),
            (("traffic light", "traffic cone", "stop sign"), None),
            (("hot dog;dog", "dog", "traffic light;dog"), None),
            (
                ("red car;blue bike", "blue car", "red bike"),
                None,
            ),  # `;` separates: the words of names never stand alone
            (("sea, calm;sky", "sky"), None),
            (("animal/dog", "animal/cat", "plant/tree"), None),
        ],
    )
    def test_separators(self, cells, separator):
        assert suspected_separator(*counted(*cells)) == separator

    def test_no_published_vocabulary_is_suspected(self, shared_data):
        for file in ("coco_train2014", "nuswide_all"):
            names = [str(name) for name in np.load(shared_data / "labels" / f"{file}.npz")["names"]]
            for separated in (True, False):
                assert names_doubt(Counter(names), separated) is None

    def test_one_line_answers_all(self):
        doubt = names_doubt(*counted("Mass|Edema", "Edema", "mass", "Mass|Edema", "No Finding", "Mass"))
        assert answers(doubt)[0] == {"label_separator": "|", "nothing": ("No Finding",), "merge_alike": True}
        assert answers(doubt)[1]["label_separator"] == ";"

    @pytest.mark.parametrize("word", ["nan", "None", "null", "NA", "-", "No Finding", "none", "N/A"])
    def test_words_for_nothing(self, write, word):
        asked(write(f"path,labels\na,sea;sky\nb,{word}\n"), "--nothing", word)

    @pytest.mark.parametrize(
        ("one", "other"),
        [("Dog", "dog"), ("hot dog", "hot\u00a0dog"), ("hot  dog", "hot dog"), ("caf\u00e9", "cafe\u0301"),
         ("dog", "dog\u200b"), ("dog", "\ufeffdog"), ("m\u00b2", "m2")],
    )  # fmt: skip
    def test_names_alike(self, write, one, other):
        asked(write(f"path,labels\na,{one};sky\nb,{other}\n"), "--merge-alike")
        asked(write(f"path,{one},{other}\na,1,0\nb,0,1\n"), "--merge-alike")
        merged = merged_names({one: 2, other: 1, "sky": 1})
        assert set(merged) == {one, other} and len(set(merged.values())) == 1

    def test_the_spelling_in_lower_case_stays_else_the_usual_one(self):
        assert merged_names({"Dog": 9, "dog": 1}) == {"Dog": "dog", "dog": "dog"}
        assert merged_names({"DOG": 1, "Dog": 9}) == {"DOG": "Dog", "Dog": "Dog"}


class TestValues:
    def test_spellings(self):
        assert [code_of(cell) for cell in ("1", " 1.00 ", "True", "0", "1e0", "-1.0", "", "NaN", "?", "x", "0.5")] == [
            1, 1, 1, 0, 1, MINUS_ONE, BLANK, BLANK, UNSURE, None, None,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("columns", "flags"),
        [
            (([1, MINUS_ONE], [1, 0]), [{"minus_one": "absent"}, {"minus_one": "unknown"}]),
            (([0, BLANK], [1, 0]), [{"blank": "absent"}, {"blank": "unknown"}]),
            (([1, 0, MINUS_ONE], [0, 1, BLANK]), []),
            (([1, UNSURE], [1, 0]), []),  # `?` says it
            (([1, 1], [0, 0]), []),
            (([BLANK, BLANK], [1, 0]), [{"ignore_columns": ("l0",)}, {"blank": "absent"}, {"blank": "unknown"}]),
        ],
    )
    def test_minus_one_and_blank(self, columns, flags):
        codes = np.array(columns, np.uint8).T
        assert answers(values_doubt([f"l{k}" for k in range(codes.shape[1])], ValueCounts.of(codes))) == flags

    def test_both_at_once_have_four_answers(self):
        doubt = values_doubt(["l"], ValueCounts.of(np.array([[1], [MINUS_ONE], [BLANK]], np.uint8)))
        assert {tuple(flags.values()) for flags in answers(doubt)} == {
            ("absent", "absent"), ("unknown", "unknown"), ("absent", "unknown"), ("unknown", "absent"),
        }  # fmt: skip

    def test_a_label_of_which_nothing_is_known_stops(self, write, draw):
        with pytest.raises(DatasetError, match="'sky' is unknown in every row") as caught:
            table.load(write("path,sea,sky\na,1,?\nb,0,?\n"), draw)
        assert "--ignore-columns sky" in commands(caught.value)[0]
        with pytest.raises(DatasetError, match="every label is unknown"):
            table.load(write("path,sea\na,?\nb,?\n"), draw)
        with pytest.raises(DatasetError, match="no label is present in any row"):
            table.load(write("path,sea\na,0\nb,0\n"), draw)


class TestColumns:
    @pytest.mark.parametrize("name", ["sex", "is_frontal", "age", "width", "index", "patient_id", "year", "iscrowd"])
    def test_zero_and_one_besides_labels(self, write, name):
        content = f"path,{name},sea,sky\na,0,1,0\nb,1,0,1\n"
        asked(write(content), "--ignore-columns", name)
        asked(write(content), "--label-columns", f"{name},sea,sky")

    @pytest.mark.parametrize("name", ["is_test", "test", "is_valid", "val", "is_train"])
    def test_a_split_of_zero_and_one(self, write, name):
        asked(write(f"path,{name},sea\na,0,1\nb,1,0\n"), "--split-column", name)

    def test_a_label_called_split(self, write):
        content = "path,split,sea\na,0,1\nb,1,0\n"
        for flags in (("--label-columns", "sea,split"), ("--ignore-columns", "split"), ("--split-column", "split")):
            asked(write(content), *flags)

    @pytest.mark.parametrize("column", ["split", "Split", "subset", "partition", "phase"])
    @pytest.mark.parametrize("word", ["val", "valid", "Validation", "dev", " VAL "])
    def test_words_for_splits(self, write, column, word):
        rows = csv_file.read(write(f"path,{column},sea\na,Training,1\nb,{word},0\nc,tst,0\n"))
        assert rows.splits == ["train", "val", "test"] and rows.names == ("sea",)
        line = json.dumps({"path": "a", "labels": ["sea"], column.lower(): "tr"})
        assert jsonl_file.read(write(line, "a.jsonl")).splits == ["train"] and split_of("holdout") is None

    @pytest.mark.parametrize("words", [["train", ""], ["test", "val"], ["train", "late"]])
    def test_splits_that_are_not_understood(self, write, words):
        asked(
            write("path,split,sea\n" + "".join(f"{k},{word},1\n" for k, word in enumerate(words))),
            "--ignore-columns",
            "split",
        )

    def test_groups_and_folds_are_read_and_others_are_named(self, write):
        rows = csv_file.read(write("path,group,fold,labels,who,day\na,p1,0,sea,Ann,1\nb,,1,,Bob,2\n"))
        assert rows.groups == ["p1", "b"] and rows.folds == [0, 1] and rows.ignored == ("who", "day")
        asked(write("path,fold,sea\na,x,1\nb,1,0\n"), "--ignore-columns", "fold")

    def test_columns_beside_a_list(self, write):
        asked(write("path,labels,boat\na,sea,1\nb,sky,0\n"), "--labels-column", "labels", "--ignore-columns", "boat")
        asked(write("path,labels,part\na,sea,train\nb,sky,test\n"), "--split-column", "part")

    def test_columns_of_something_else_among_labels(self, write):
        asked(write("path,Sex,sea\na,F,1\nb,M,\n"), "--ignore-columns", "Sex", "--blank", "absent")
        asked(write("path,id,sea\na,0,1\nb,1,0\nc,2,1\n"), "--ignore-columns", "id")
        asked(write("path,tags\na,sea;sky\n"), "--labels-column", "tags")
        asked(write("path,sea,sky\na,x,\nb,,x\n"), "--blank", "absent")


class TestText:
    def test_an_open_quote(self, write):
        file = write('path,labels\na,sea\nb,"sky\nc,sea\nd,sky"\ne,sea\n')
        asked(file, "--no-quotes")
        with pytest.raises(DatasetError, match="lines 3 to 5 are one row"):
            csv_file.read(file)
        asked(write('path,labels,title\na,sea,"24 screen\nb,sky,x\nc,sea,y"\nd,sky,z\n'), "--no-quotes")
        assert csv_file.read(write('path,labels,title\na,sea,"two\nlines"\n')).paths == ["a"]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_what_is_beyond_doubt_is_read(self, write, end):
        lines = ["", "Path, sea , sky", "a.jpg, 1 ,0.0", "", "  ", "b.jpg,FALSE,True", ",,"]
        rows = csv_file.read(write(end.join(lines) + end))
        assert rows.paths == ["a.jpg", "b.jpg"] and rows.labels.tolist() == [[1, 0], [0, 1]]

    @pytest.mark.parametrize(
        ("content", "flags"),
        [
            ("path;sea\na;1\n", ("--delimiter", ";")),
            ("path\tsea\na\t1\n", ("--delimiter", "tab")),
            ("# by me\npath,sea\na,1\n", ()),
            (",path,sea\n0,a,1\n", ()),
            ("filename,labels\na,sea\n", ()),
            ("path,labels\na,sea,sky\n", ()),
            ("path,sea\na\0b,1\n", ("--drop-broken",)),
            ("path,sea\n#a.jpg,1\n", ()),
        ],
    )
    def test_dialects(self, write, content, flags):
        asked(write(content), *flags)

    def test_encodings(self, tmp_path):
        (tmp_path / "a.csv").write_bytes("path,for\u00eat\na,1\n".encode("latin-1"))
        asked(tmp_path / "a.csv", "--encoding", "cp1252")
        (tmp_path / "a.csv").write_bytes("path,sea\na,1\n".encode("utf-16"))
        asked(tmp_path / "a.csv", "--encoding", "utf-16")


class TestJsonl:
    @pytest.mark.parametrize(
        ("labels", "flags"),
        [
            (["sea;sky", "sea"], ("--label-separator", ";")),
            (["sea, sky", "sky, boat", "boat, sea"], ("--label-separator", ",")),
            ([["sea, sky"], ["sky"], ["sea"]], ("--label-separator", ",")),
            ([["sea;sky"], ["sky"], ["sea"]], ("--label-separator", ";")),
            ([[1, 0, 1], [0, 0, 0]], ("--label-names", "NAME1,NAME2,NAME3")),
            ([{"sea": 1}], ()),
            ([["sea"], None], ("--blank", "unknown")),
        ],
    )
    def test_other_ways_to_write_labels(self, write, labels, flags):
        lines = [json.dumps({"path": f"{k}", "labels": value}) for k, value in enumerate(labels)]
        asked(write("\n".join(lines), "a.jsonl"), *flags)

    def test_unknown_and_absent(self, write):
        line = {"path": "a", "labels": ["sea"], "unknown": ["sky"], "who": "Ann"}
        rows = jsonl_file.read(write(json.dumps(line) + '\n{"path": "b", "labels": ["boat"]}', "a.jsonl"))
        assert rows.names == ["boat", "sea", "sky"] and rows.labels.tolist() == [[0, 1, -1], [1, 0, 0]]
        assert rows.ignored == ("who",)
        line = {"path": "a", "labels": ["sea"], "absent": ["sky"]}
        rows = jsonl_file.read(write(json.dumps(line) + '\n{"path": "b", "labels": ["boat"]}', "a.jsonl"))
        assert rows.labels.tolist() == [[-1, 1, 0], [1, -1, -1]]


def coco(folder: Path, **changes: object) -> Path:
    whole = {
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(4)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": k, "image_id": k, "category_id": 1 + k % 2} for k in range(4)],
    }
    (folder / "a.json").write_text(json.dumps(whole | changes))
    return folder / "a.json"


class TestCoco:
    @pytest.mark.parametrize(
        ("changes", "what", "flags"),
        [
            ({"images": [{"id": 0, "file_name": "a", "neg_category_ids": [1]}]}, "as in LVIS", []),
            (
                {"annotations": [], "images": [{"id": 0, "file_name": "a", "labels": ["cat"]}]},
                "images have 'labels'",
                [],
            ),
            ({"annotations": [{"id": 1, "image_id": "1", "category_id": 1}]}, "not listed, except as a number", []),
            ({"annotations": [{"id": 1, "image_id": 1, "category_id": 7}]}, "not listed", ["--drop-broken"]),
            ({"annotations": [{"image_id": 1, "category_id": 1}]}, "lacks the key 'id'", []),
            (
                {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]},
                "two categories are called 'cat'",
                [],
            ),
            ({"categories": None}, "no list 'categories'", []),
        ],
    )
    def test_what_is_nearly_coco(self, tmp_path, draw, changes, what, flags):
        file = coco(tmp_path, **changes)
        with pytest.raises(DatasetError, match=what) as caught:
            table.load(file, draw)
        assert shlex.split(commands(caught.value)[0])[2:-2] == [str(file), *flags]

    def test_nothing_annotated(self, tmp_path, draw):
        with pytest.raises(DatasetError, match="has 4 images and no annotation"):
            table.load(coco(tmp_path, annotations=[]), draw)

    def test_splits_of_images(self, tmp_path, draw):
        words = ("train", "train", "valid", "test")
        images = [{"id": k, "file_name": f"{k}.jpg", "subset": word} for k, word in enumerate(words)]
        dataset = table.load(coco(tmp_path, images=images), draw)
        assert [len(split) for split in dataset.splits.values()] == [2, 1, 1] and dataset.drawn == frozenset()


class TestCanonical:
    @pytest.mark.parametrize(
        "names",
        [("sea", "sky", "boat"), ("a;b", "c", "d"), ("sea|sky", "sea", "sky"), ("none", "x", "y"), ("Dog", "dog", "x"),
         ("[1, 2]", "x", " y"), ("{a,b}", "{c}", "{d}"), ("7 8", "7", "8"), ("\u202egod", "two\nlines", '"q"')],
    )  # fmt: skip
    @pytest.mark.parametrize("unknown", [0, 1, 4])
    def test_what_is_written_is_read_without_a_question(self, tmp_path, names, unknown):
        labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], np.int8)
        labels.reshape(-1)[[2, 3, 4, 8][:unknown]] = -1
        labels[2] = [0, 1, 1]
        rows = Rows(["a", "b", "c"], labels, names, ["train", "val", "test"], groups=["g", "g", "h"], folds=[0, 1, 1])
        write_table(rows, tmp_path / "labels.csv")
        read = csv_file.read(tmp_path / "labels.csv")
        order = [list(read.names).index(name) for name in names]
        assert read.labels[:, order].tolist() == labels.tolist()
        assert (read.splits, read.groups, read.folds) == (["train", "val", "test"], ["g", "g", "h"], [0, 1, 1])

    def test_a_label_twice_in_a_row_is_refused(self, write):
        with pytest.raises(DatasetError, match="line 2: the label 'sea' is in 'labels' and in 'unknown'"):
            csv_file.read(write("path,labels,unknown\na,sea,sea\n"))
        assert canonical.LABELS_JSON == "labels_json"


class TestMissingImages:
    @pytest.mark.parametrize(
        ("path", "there", "cause", "flags"),
        [
            ("top/img/a.jpg", "img/a.jpg", "the folder top is not there", ()),
            ("img/a", "img/a.jpg", "paths have no suffix", ("--suffix", ".jpg")),
            ("img\\a.jpg", "img/a.jpg", "paths have backslashes", ()),
            ("img/a%20b.jpg", "img/a b.jpg", "encoded as in a URL", ()),
            ("a.jpg", "img/a.jpg", "exists", ("--images-dir", "{}/img")),
            ("a.jpg", "../images/a.jpg", "exists", ("--images-dir", "{}/../images")),
            ("a.jpg", "elsewhere.txt", "the first one would be", ("--images-dir", "FOLDER")),
        ],
    )
    def test_the_cause_and_its_remedy(self, tmp_path, draw, path, there, cause, flags):
        folder = tmp_path / "annotations"
        (folder / there).parent.mkdir(parents=True)
        folder.mkdir(exist_ok=True)
        (folder / there).touch()
        file = folder / "a.csv"
        file.write_text(
            "path,split,sea\n"
            + "".join(f"{path}{'' if k == 0 else k},{s},{k % 2}\n" for k, s in enumerate(("train", "val", "test")))
        )
        with pytest.raises(DatasetError, match=cause) as caught:
            require_some_images(table.load(file, draw))
        assert str(folder / path) in caught.value.what
        words = shlex.split(commands(caught.value)[0])[3:-2]
        resolved = [str(Path(word).resolve()) if "/" in word else word for word in words]
        assert resolved == [str(Path(flag.format(folder)).resolve()) if "/" in flag else flag for flag in flags]

    def test_urls(self, write):
        asked(write("path,sea\nhttps://example.org/a.jpg,1\n"), "--images-dir", "FOLDER")

    def test_one_image_is_enough(self, write, draw, tmp_path):
        (tmp_path / "b").touch()
        require_some_images(table.load(write("path,split,sea\na,train,1\nb,val,0\nc,test,1\n"), draw))
