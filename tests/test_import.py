"""`labeldep import`: each form is recognised and read as it is meant; the table it writes needs no further thought."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from foreign_forms import SOURCES as OTHER_SOURCES
from foreign_tables import LABELS, Meant, N, images, names_of, present, truth, write
from foreign_tables import SOURCES as TABLES
from sandbox import BACKBONE, Sandbox

from labeldep_cli.ingest.forms import FORMS

SOURCES = TABLES | OTHER_SOURCES


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def imported(sandbox: Sandbox, source: Path, *words: object) -> dict[str, object]:
    return sandbox.json("import", source, "--out", sandbox.folder / "out" / "labels.csv", *words)


def refusal(sandbox: Sandbox, source: Path, *words: object, code: int = 1) -> str:
    result = sandbox.run("import", source, "--out", sandbox.folder / "out" / "labels.csv", *words)
    assert result.exit_code == code, result.stdout
    assert not (sandbox.folder / "out" / "labels.csv").exists()
    return result.stderr


def counts(report: dict[str, object], what: str = "present") -> dict[str, int]:
    return {label["label"]: label[what] for label in report["labels"]}


class TestEachForm:
    def test_none_is_forgotten(self) -> None:
        assert {form for form, _ in SOURCES.values()} == FORMS.keys()

    @pytest.mark.parametrize("name", SOURCES)
    def test_it_is_recognised_and_read_as_it_is_meant(self, name: str, sandbox: Sandbox) -> None:
        form, make = SOURCES[name]
        meant = make(sandbox.folder / "source")
        report = imported(sandbox, meant.source)
        assert report["form"] == FORMS[form].title
        check(report, meant)

    @pytest.mark.parametrize("name", SOURCES)
    def test_its_table_says_the_same_to_all_commands(self, name: str, sandbox: Sandbox) -> None:
        meant = SOURCES[name][1](sandbox.folder / "source")
        imported(sandbox, meant.source)
        found = sandbox.json("data", sandbox.folder / "out" / "labels.csv")
        splits = found["splits"].values()
        assert {label: sum(s["label_counts"][label] for s in splits) for label in meant.present} == meant.present
        assert sum(split["unknown"] for split in splits) == meant.unknown
        assert found["missing"] == found["unreadable"] == []

    @pytest.mark.parametrize("name", SOURCES)
    def test_its_name_is_enough(self, name: str, sandbox: Sandbox) -> None:
        form, make = SOURCES[name]
        meant = make(sandbox.folder / "source")
        check(imported(sandbox, meant.source, "--format", form), meant)

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("celeba txt", "-1 means that a label is absent"),
            ("celeba folder", "splits by list_eval_partition"),
            ("chexpert", "the folder of a patient is the group of its images"),
            ("chexpert", "an empty cell means that a label is absent"),
            ("nih", "'No Finding' means that an image has no label"),
            ("nih", "the column 'Patient ID' is the group of an image"),
            ("nih", "splits by train_val_list.txt and test_list.txt"),
            ("planet", "between labels: blanks"),
            ("planet", "images found under other paths: 12, such as 'train_0' as"),
            ("hpa", "labels are called by their numbers; --label-names gives them names"),
            ("imet", "names of the label numbers from"),
            ("posters", "the labels of the column 'Genre' are read from their own columns"),
            ("openimages", "labels without a row are unknown"),
            ("boxes", "labels without a row are absent"),
            ("label studio", "unknown, since annotators disagree: 2 times a label"),
        ],
    )
    def test_what_it_assumes_is_told(self, name: str, sentence: str, sandbox: Sandbox) -> None:
        report = imported(sandbox, SOURCES[name][1](sandbox.folder / "source").source)
        assert sentence in "\n".join(report["understood"])

    @pytest.mark.slow
    @pytest.mark.parametrize("name", SOURCES)
    def test_a_network_is_trained_without_another_thought(self, name: str, sandbox: Sandbox) -> None:
        imported(sandbox, SOURCES[name][1](sandbox.folder / "source").source)
        of_table = ("--dataset", sandbox.folder / "out" / "labels.csv", *BACKBONE)
        assert sandbox.json("extract", *of_table)["skipped"] == []
        assert sandbox.json("pretrain", *of_table, "--steps", 2)["steps"] == 2


def check(report: dict[str, object], meant: Meant) -> None:
    assert counts(report) == meant.present
    assert sum(counts(report, "unknown").values()) == meant.unknown
    splits = report["splits"] and tuple(report["splits"].values())
    assert splits == meant.splits
    assert report["groups"] == meant.groups


def test_an_unknown_form_names_the_known_ones(sandbox: Sandbox) -> None:
    meant = SOURCES["planet"][1](sandbox.folder / "source")
    assert "Did you mean 'planet'?" in refusal(sandbox, meant.source, "--format", "plannet")


DOUBTFUL = (
    *("minus one", "blank", "soft", "sex", "split", "separator and nothing", "alike", "quote", "row", "value"),
    *("missing", "twice", "two lists", "list and columns", "hot lists"),
)
"""The tables of `tables_in_doubt`."""


def multi_hot(folder: Path, one: str = "1", zero: str = "0", delimiter: str = ",") -> list[str]:
    rows = zip(images(folder), truth(), strict=True)
    lines = [delimiter.join((path, *(one if v else zero for v in row))) for path, row in rows]
    return [delimiter.join(("path", *LABELS)), *lines]


def listed(
    folder: Path, separator: str = ";", nothing: str = "", delimiter: str = ",", header: str = "path,labels"
) -> list[str]:
    rows = zip(images(folder), truth(), strict=True)
    return [header, *(f"{path}{delimiter}{separator.join(names_of(row)) or nothing}" for path, row in rows)]


class TestDialects:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters_are_detected(self, delimiter: str, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.txt", multi_hot(sandbox.folder, delimiter=delimiter))
        assert counts(imported(sandbox, table)) == present()

    def test_a_strange_delimiter_is_named(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder, delimiter="^"))
        assert counts(imported(sandbox, table, "--delimiter", "^")) == present()
        assert (
            "is not one character"
            in sandbox.run("import", table, "--delimiter", "::", "--out", sandbox.folder / "b.csv").stderr
        )

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    def test_a_mark_tells_the_encoding(self, encoding: str, sandbox: Sandbox) -> None:
        lines = "\n".join(multi_hot(sandbox.folder)).replace("dog", "été")
        (sandbox.folder / "a.csv").write_text(lines, encoding=encoding)
        assert counts(imported(sandbox, sandbox.folder / "a.csv")) == present(("beach", "boat", "été"))

    def test_another_encoding_is_never_guessed(self, sandbox: Sandbox) -> None:
        lines = "\n".join(multi_hot(sandbox.folder)).replace("dog", "été")
        (sandbox.folder / "a.csv").write_text(lines, encoding="cp1252")
        said = refusal(sandbox, sandbox.folder / "a.csv")
        assert "As cp1252 the place reads 'path,beach,boat,été'" in said
        report = imported(sandbox, sandbox.folder / "a.csv", "--encoding", "cp1252")
        assert counts(report) == present(("beach", "boat", "été"))
        assert "the text is read as cp1252" in report["understood"]

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_an_encoding_without_its_mark_is_asked(self, encoding: str, sandbox: Sandbox) -> None:
        lines = "\n".join(multi_hot(sandbox.folder)).replace("dog", "été")
        (sandbox.folder / "a.csv").write_bytes(lines.encode(encoding))
        assert f"--encoding {encoding}" in refusal(sandbox, sandbox.folder / "a.csv")
        report = imported(sandbox, sandbox.folder / "a.csv", "--encoding", encoding)
        assert counts(report) == present(("beach", "boat", "été"))

    def test_a_compressed_table_is_read(self, sandbox: Sandbox) -> None:
        import gzip

        lines = "\n".join(multi_hot(sandbox.folder))
        (sandbox.folder / "a.csv.gz").write_bytes(gzip.compress(lines.encode()))
        assert counts(imported(sandbox, sandbox.folder / "a.csv.gz")) == present()

    def test_a_hint_for_excel_names_the_delimiter(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder, delimiter=";")
        assert counts(imported(sandbox, write(sandbox.folder / "a.csv", ["sep=;", *lines]))) == present()

    def test_single_quotation_marks_are_seen(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        quoted = [lines[0], *(",".join(f"'{cell}'" for cell in line.split(",")) for line in lines[1:])]
        assert counts(imported(sandbox, write(sandbox.folder / "a.csv", quoted))) == present()

    def test_comments_and_blank_lines_are_left_out_and_told(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        lines[5:5] = ["", "# the other camera", ",,,"]
        report = imported(sandbox, write(sandbox.folder / "a.csv", ["# made by hand", *lines]))
        assert counts(report) == present()
        assert "comments left out: 2 (line 1: '# made by hand')" in report["understood"]

    def test_an_index_of_pandas_is_left_out_and_told(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        numbered = ["," + lines[0], *(f"{k},{line}" for k, line in enumerate(lines[1:]))]
        report = imported(sandbox, write(sandbox.folder / "a.csv", numbered))
        assert counts(report) == present()
        assert report["ignored"] == ["column 1"]

    def test_labels_in_further_cells_are_read_and_told(self, sandbox: Sandbox) -> None:
        report = imported(sandbox, write(sandbox.folder / "a.csv", listed(sandbox.folder, separator=",")))
        assert counts(report) == present()
        assert "these are further labels" in " ".join(report["understood"])

    def test_a_table_without_a_header_is_read_and_told(self, sandbox: Sandbox) -> None:
        report = imported(sandbox, write(sandbox.folder / "a.csv", listed(sandbox.folder, separator=", ")[1:]))
        assert counts(report) == present()
        assert "no names of columns: each row has an image, then its labels" in report["understood"]

    def test_values_without_a_header_need_names(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.txt", multi_hot(sandbox.folder, delimiter=" ")[1:])
        assert "each image has 3 values, but no names of labels" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--label-names", ",".join(LABELS))) == present()

    def test_a_mark_without_its_partner_stops(self, sandbox: Sandbox) -> None:
        lines = listed(sandbox.folder)
        lines[3], lines[9] = lines[3].replace(",", ',"', 1), lines[9] + '"'
        table = write(sandbox.folder / "a.csv", lines)
        assert "opens a cell in line 4 that ends in line 10" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--no-quotes")) == present()

    def test_a_mark_within_a_cell_stops(self, sandbox: Sandbox) -> None:
        lines = listed(sandbox.folder)
        lines[2] = '001.png,"beach;"boat;dog'
        assert "closes a cell in line 3, but the cell goes on" in refusal(
            sandbox, write(sandbox.folder / "a.csv", lines)
        )

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"PK\x03\x04" + b"\0" * 99, "an Excel file"),
            (b"\x80\x04\x95" + b"\0" * 9, "a pickle"),
            (b"%PDF-1.5\n", "a PDF"),
        ],
    )
    def test_other_kinds_of_files_are_named(self, content: bytes, kind: str, sandbox: Sandbox) -> None:
        (sandbox.folder / "a.bin").write_bytes(content)
        assert f"is {kind}" in refusal(sandbox, sandbox.folder / "a.bin")


class TestValues:
    @pytest.mark.parametrize(
        ("one", "zero"),
        [
            ("True", "False"),
            ("yes", "no"),
            ("Ja", "Nein"),
            ("1.00", "0.00"),
            ('"1,0"', '"0,0"'),
            ("x", ""),
            ("1e0", "0e0"),
            ("t", "f"),
            ("WAHR", "FALSCH"),
            ("VRAI", "FAUX"),
            ("VERDADERO", "FALSO"),
        ],
    )
    def test_spellings(self, one: str, zero: str, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder, one, zero))
        assert counts(imported(sandbox, table)) == present()

    @pytest.mark.parametrize(
        ("cell", "flag"),
        [("-1", "--minus-one"), ("", "--blank"), ("-", "--blank"), ("NA", "--blank"), ("\\N", "--blank")],
    )
    def test_what_may_mean_absent_or_unknown_is_asked(self, cell: str, flag: str, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder, zero=cell))
        assert f"{flag} absent" in refusal(sandbox, table)
        absent = imported(sandbox, table, flag, "absent")
        unknown = imported(sandbox, table, flag, "unknown", "--fresh")
        assert counts(absent) == counts(unknown) == present()
        assert sum(counts(absent, "unknown").values()) == 0
        assert sum(counts(unknown, "absent").values()) == 0

    def test_numbers_between_0_and_1_need_a_threshold(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder, "0.85", "0.05"))
        assert "--threshold 0.5" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--threshold", "0.5")) == present()

    @pytest.mark.parametrize("ones", [("100",), ("2", "3"), ("1", "2", "1", "1")])
    def test_numbers_from_0_on_are_asked(self, ones: tuple[str, ...], sandbox: Sandbox) -> None:
        header, *lines = multi_hot(sandbox.folder, "ONE")
        lines = [line.replace("ONE", ones[row % len(ones)]) for row, line in enumerate(lines)]
        table = write(sandbox.folder / "a.csv", [header, *lines])
        said = refusal(sandbox, table)
        assert "--labels-column" not in said
        line = next(line for line in said.splitlines() if "--threshold 1.0" in line)
        assert counts(imported(sandbox, table, *shlex.split(line)[3:-2])) == present()

    def test_larger_numbers_in_one_of_the_columns_are_asked(self, sandbox: Sandbox) -> None:
        header, *lines = multi_hot(sandbox.folder)
        lines = [f"{line[:-1]}{int(line[-1]) * 3}" for line in lines]
        table = write(sandbox.folder / "a.csv", [header, *lines])
        said = refusal(sandbox, table)
        both = f"--label-columns {','.join(LABELS)} --threshold 1.0"
        assert both in said
        assert counts(imported(sandbox, table, *both.split())) == present()
        assert set(counts(imported(sandbox, table, "--label-columns", ",".join(LABELS[:-1]), "--fresh"))) == {
            *LABELS[:-1]
        }

    def test_the_same_words_in_all_columns_are_no_list_of_labels(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder, "1", "2"))
        said = refusal(sandbox, table)
        assert "which of them says that a label is present?" in said
        assert "--labels-column" not in said

    def test_a_measure_beside_labels_may_be_left_out(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        table = write(
            sandbox.folder / "a.csv", [f"{line},{'blur' if k == 0 else k / 99}" for k, line in enumerate(lines)]
        )
        assert "--ignore-columns blur" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--ignore-columns", "blur")) == present()

    def test_a_cell_that_is_no_value_names_its_place(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        lines[4] = "003.png,1,maybe,0"
        table = write(sandbox.folder / "a.csv", lines)
        said = refusal(sandbox, table)
        assert "line 5, column 'boat': 'maybe' is not the value of a label" in said
        assert imported(sandbox, table, "--drop-broken")["rows"] == len(lines) - 2
        assert set(counts(imported(sandbox, table, "--ignore-columns", "boat", "--fresh"))) == {"beach", "dog"}

    def test_columns_of_something_else_are_asked(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        table = write(
            sandbox.folder / "a.csv", [f"{line},{'sex' if k == 0 else k % 2}" for k, line in enumerate(lines)]
        )
        assert "--ignore-columns sex" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--ignore-columns", "sex")) == present()
        meant = imported(sandbox, table, "--label-columns", "beach,sex", "--fresh")
        assert set(counts(meant)) == {"beach", "sex"} and meant["ignored"] == ["boat", "dog"]


class TestLists:
    @pytest.mark.parametrize("separator", ["|", ", ", "/"])
    def test_a_separator_that_nobody_named_is_asked(self, separator: str, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = [f'{path},"{separator.join(names_of(row))}"' for path, row in rows]
        table = write(sandbox.folder / "a.csv", ["path,labels", *lines])
        assert "--label-separator" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--label-separator", separator.strip())) == present()

    def test_columns_between_semicolons_leave_commas_to_lists(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", listed(sandbox.folder, ", ", delimiter=";", header="path;labels"))
        assert counts(imported(sandbox, table)) == present()

    def test_an_empty_list_has_no_label_or_says_nothing(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", listed(sandbox.folder))
        n_empty = int((truth().sum(axis=1) == 0).sum())
        report = imported(sandbox, table)
        assert f"an empty cell means that an image has no label: {n_empty} cells" in report["understood"]
        assert sum(counts(report, "unknown").values()) == 0
        unknown = imported(sandbox, table, "--blank", "unknown", "--fresh")
        assert set(counts(unknown, "unknown").values()) == {n_empty}

    @pytest.mark.parametrize("header", ["tag1,tag2,tag3", "label,label,label"])
    def test_a_name_in_each_of_several_columns(self, header: str, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = [",".join([path, *names_of(row), "", "", ""][:4]) for path, row in rows]
        report = imported(sandbox, write(sandbox.folder / "a.csv", [f"image,{header}", *lines]))
        assert counts(report) == present()
        assert "list the labels together" in " ".join(report["understood"])

    @pytest.mark.parametrize("hot", [False, True])
    @pytest.mark.parametrize("width", [10, 200])
    def test_arrays_of_numpy(self, hot: bool, width: int, sandbox: Sandbox) -> None:
        def cell(row: np.ndarray) -> str:
            return np.array2string(row if hot else np.array(names_of(row)), max_line_width=width)

        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = [f'{path},"{cell(row)}"' for path, row in rows]
        table = write(sandbox.folder / "a.csv", ["path,labels", *lines])
        assert counts(imported(sandbox, table, *(["--label-names", ",".join(LABELS)] if hot else []))) == present()

    def test_a_line_of_a_cell_is_a_label(self, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = ['{},"{}"'.format(path, "\n".join(names_of(row))) for path, row in rows]
        table = write(sandbox.folder / "a.csv", ["path,labels", *lines])
        assert f"labeldep import {table} --out" in sandbox.run("data", table).stderr
        report = imported(sandbox, table)
        assert counts(report) == present()
        assert "each line of a cell is a label" in " ".join(report["understood"])

    @pytest.mark.parametrize("nothing", ["none", "No Finding", "\\N"])
    def test_words_for_nothing_are_asked(self, nothing: str, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", listed(sandbox.folder, nothing=nothing))
        assert shlex.join(["--nothing", nothing]) in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--nothing", nothing)) == present()

    @pytest.mark.parametrize("quoted", ['"{}"', "{}"])
    def test_values_in_a_list_need_names(self, quoted: str, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        delimiter = "," if quoted != "{}" else "\t"
        lines = [f"{path}{delimiter}{quoted.format([int(v) for v in row])}" for path, row in rows]
        table = write(sandbox.folder / "a.csv", [f"path{delimiter}labels", *lines])
        assert "--label-names" in refusal(sandbox, table)
        assert counts(imported(sandbox, table, "--label-names", ",".join(LABELS))) == present()
        assert (
            "3 numbers, but there are 2 names"
            in sandbox.run("import", table, "--label-names", "a,b", "--out", sandbox.folder / "b.csv").stderr
        )

    def test_numbers_get_names(self, sandbox: Sandbox) -> None:
        meant = SOURCES["hpa"][1](sandbox.folder / "source")
        assert counts(imported(sandbox, meant.source, "--label-names", ",".join(LABELS))) == present()
        said = sandbox.run("import", meant.source, "--label-names", "one,two", "--out", sandbox.folder / "b.csv").stderr
        assert "there is no name for the label '2'" in said

    def test_a_list_and_columns_with_other_names_are_asked(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        table = write(sandbox.folder / "a.csv", [lines[0] + ",tags", *(line + ",sunny" for line in lines[1:])])
        said = refusal(sandbox, table)
        assert "--labels-column tags" in said and "--label-columns beach,boat,dog" in said
        assert counts(imported(sandbox, table, "--labels-column", "tags")) == {"sunny": len(lines) - 1}


class TestLongTables:
    def test_boxes_of_several_readers(self, sandbox: Sandbox) -> None:
        """As in VinDr-CXR: most labels of an image have several rows."""
        rows = list(zip(images(sandbox.folder), truth(), strict=True))
        lines = [
            f"{path},{name},R{reader},{reader}.5"
            for path, row in rows
            for name in names_of(row) or ["No finding"]
            for reader in range(3)
        ]
        table = write(sandbox.folder / "a.csv", ["image_id,class_name,rad_id,x_min", *lines])
        assert counts(imported(sandbox, table, "--nothing", "No finding")) == present()

    def test_their_groups_are_kept(self, sandbox: Sandbox) -> None:
        rows = list(zip(images(sandbox.folder), truth(), strict=True))
        lines = [f"{path},{name},p{k // 3}" for k, (path, row) in enumerate(rows) for name in [*names_of(row), "image"]]
        table = write(sandbox.folder / "a.csv", ["image,label,patient", *lines])
        report = imported(sandbox, table, "--group-column", "patient")
        assert report["groups"] == N // 3
        assert "patient" not in report["ignored"]

    def test_lists_of_several_annotators_are_no_long_table(self, sandbox: Sandbox) -> None:
        rows = list(zip(images(sandbox.folder), truth(), strict=True))
        lines = [f"{path},{';'.join(names)}" for path, row in rows for names in (names_of(row), names_of(1 - row))]
        table = write(sandbox.folder / "a.csv", ["path,labels", *lines])
        assert "is listed more than once" in refusal(sandbox, table)


class TestColumns:
    def test_flags_name_what_is_not_recognised(self, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = [f"{path},p{k // 2},{'+'.join(names_of(row))},by Ann" for k, (path, row) in enumerate(rows)]
        table = write(sandbox.folder / "a.csv", ["what,who,seen,note", *lines])
        assert "--labels-column" in refusal(sandbox, table)
        words = ("--path-column", "what", "--labels-column", "seen", "--group-column", "who", "--label-separator", "+")
        report = imported(sandbox, table, *words)
        assert counts(report) == present() and report["groups"] == 6 and report["ignored"] == ["note"]

    def test_an_image_without_its_group_stops(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        lines = [f"{line},{'group' if k == 0 else '' if k == 4 else k // 2}" for k, line in enumerate(lines)]
        assert "1 of 12 images have no group" in refusal(sandbox, write(sandbox.folder / "a.csv", lines))

    def test_a_flag_that_names_no_column_suggests_one(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        assert "Did you mean 'path'?" in refusal(sandbox, table, "--path-column", "paht")

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ("subset", ("training", "validation", "TEST")),
            ("Partition", ("train", "dev", "tst")),
            ("is_test", ("0", "0", "1")),
            ("is_valid", ("False", "True", "False")),
        ],
    )
    def test_splits_in_any_words(self, header: str, words: tuple[str, ...], sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        lines = [f"{line},{header if k == 0 else words[(k - 1) // 4]}" for k, line in enumerate(lines)]
        report = imported(sandbox, write(sandbox.folder / "a.csv", lines))
        meant = {"is_test": (8, 0, 4), "is_valid": (8, 4, 0)}.get(header, (4, 4, 4))
        assert tuple(report["splits"].values()) == meant
        assert counts(report) == present()

    @pytest.mark.parametrize("word", ["", "elsewhere", "0"])
    def test_a_split_that_is_none_is_asked(self, word: str, sandbox: Sandbox) -> None:
        lines = [
            f"{line},{'split' if k == 0 else word if k == 3 else 'train'}"
            for k, line in enumerate(multi_hot(sandbox.folder))
        ]
        table = write(sandbox.folder / "a.csv", lines)
        assert "--ignore-columns split" in refusal(sandbox, table)
        assert imported(sandbox, table, "--ignore-columns", "split")["splits"] is None
        assert imported(sandbox, table, "--drop-broken", "--fresh")["rows"] == len(lines) - 2

    def test_tables_with_other_labels_are_not_joined_silently(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder / "data")
        write(sandbox.folder / "data" / "train.csv", lines[:9])
        for odd in (
            [lines[0].replace("dog", "cat"), *lines[9:]],
            [f"{lines[0]},cat", *(f"{line},1" for line in lines[9:])],
        ):
            write(sandbox.folder / "data" / "val.csv", odd)
            assert "do not have the same labels" in refusal(sandbox, sandbox.folder / "data")
        write(sandbox.folder / "data" / "val.csv", [lines[0], *lines[9:]])
        report = imported(sandbox, sandbox.folder / "data")
        assert counts(report) == present() and report["splits"] == {"train": 8, "val": 4, "test": 0}

    def test_what_is_left_out_must_exist(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        assert "Did you mean 'boat'?" in refusal(sandbox, table, "--ignore-columns", "baot")
        table = write(sandbox.folder / "b.csv", listed(sandbox.folder))
        assert "Did you mean 'boat'?" in refusal(sandbox, table, "--ignore-columns", "baot")

    def test_a_list_and_columns_are_not_named_together(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        said = refusal(sandbox, table, "--labels-column", "dog", "--label-columns", "boat")
        assert "exclude each other" in said

    def test_folders_of_splits_are_splits(self, sandbox: Sandbox) -> None:
        paths = images(sandbox.folder, lambda k: f"{'train' if k < 9 else 'valid'}/{k}.png")
        lines = [f"{path},{';'.join(names_of(row))}" for path, row in zip(paths, truth(), strict=True)]
        report = imported(sandbox, write(sandbox.folder / "a.csv", ["path,labels", *lines]))
        assert tuple(report["splits"].values()) == (9, 3, 0)
        assert "splits by the folders of the images" in report["understood"]

    def test_rows_of_another_length_are_broken(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        lines[2] += ",1"
        lines[7] = "006.png,1"
        table = write(sandbox.folder / "a.csv", lines)
        assert "line 3: 5 cells, but the header has 4" in refusal(sandbox, table)
        report = imported(sandbox, table, "--drop-broken")
        assert report["rows"] == len(lines) - 3
        assert any(sentence.startswith("left out: 2 (") for sentence in report["understood"])

    def test_images_are_recognised_on_the_disk(self, sandbox: Sandbox) -> None:
        header, *lines = multi_hot(sandbox.folder)
        rows = [f"study-{row // 2},{line.replace('.png', '')}" for row, line in enumerate(lines)]
        table = write(sandbox.folder / "a.csv", ["study,dicom" + header[len("path") :], *rows])
        report = imported(sandbox, table)
        assert "the column 'dicom' names images that are there" in report["understood"]
        assert counts(report) == present()

    def test_an_image_that_is_listed_twice(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        same = write(sandbox.folder / "same.csv", [*lines, lines[3]])
        other = write(sandbox.folder / "other.csv", [*lines, "001.png,0,0,0"])
        assert "taken once" in " ".join(imported(sandbox, same)["understood"])
        assert (
            "listed more than once, with different labels"
            in sandbox.run("import", other, "--out", sandbox.folder / "b.csv").stderr
        )

    def test_rows_of_an_image_may_disagree_about_a_label(self, sandbox: Sandbox) -> None:
        meant = SOURCES["openimages"][1](sandbox.folder / "source")
        with meant.source.open("a") as stream:
            stream.write("001,crowdsource,/m/0,0\n")
        report = imported(sandbox, meant.source)
        assert counts(report, "unknown")["beach"] == 1
        assert "unknown, since rows of one image and label disagree: 1" in report["understood"]

    def test_labels_without_a_row_are_asked_beside_labels_that_are_absent(self, sandbox: Sandbox) -> None:
        rows = zip(images(sandbox.folder), truth(), strict=True)
        lines = [f"{path},{name},{v}" for path, row in rows for name, v in zip(LABELS, row, strict=True)]
        table = write(sandbox.folder / "a.csv", ["image,label,value", *lines[:-1]])
        assert "--blank unknown" in refusal(sandbox, table)
        assert sum(counts(imported(sandbox, table, "--blank", "unknown"), "unknown").values()) == 1
        assert sum(counts(imported(sandbox, table, "--blank", "absent", "--fresh"), "unknown").values()) == 0


class TestImages:
    """The names of a table lead to files, or it is said which was tried."""

    @pytest.mark.parametrize(
        ("folder", "written"),
        [
            ("images", "{}.png"),
            ("../images", "{}.png"),
            ("JPEGImages", "{}"),
            ("a/b", "a\\b\\{}.png"),
            ("a/b", "gone/a/b/{}.png"),
            ("a/b", "https://example.org/a/b/{}.png"),
            ("with blank", "with%20blank/{}.png"),
            ("deep/er/still", "{}.png"),
        ],
    )
    def test_they_are_found_where_they_are(self, folder: str, written: str, sandbox: Sandbox) -> None:
        images(sandbox.folder / "labels" / folder, "{}.png".format)
        lines = [f"{written.format(k)},{';'.join(names_of(row))}" for k, row in enumerate(truth())]
        report = imported(sandbox, write(sandbox.folder / "labels" / "a.csv", ["path,labels", *lines]))
        assert all(row["on_disk"] for row in report["sample"])
        assert counts(report) == present()

    def test_flags_say_where_they_are(self, sandbox: Sandbox) -> None:
        images(sandbox.folder / "elsewhere", "{}_red.png".format)
        lines = [f"{k},{';'.join(names_of(row))}" for k, row in enumerate(truth())]
        table = write(sandbox.folder / "labels" / "a.csv", ["image,labels", *lines])
        assert "--suffix" in refusal(sandbox, table)
        report = imported(sandbox, table, "--images-dir", sandbox.folder / "elsewhere", "--suffix", "_red.png")
        assert counts(report) == present()

    def test_missing_ones_name_the_path_that_was_tried(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        table = write(sandbox.folder / "a.csv", [*lines, "gone.png,1,1,1"])
        said = refusal(sandbox, table)
        assert f"1 of 13 images are not found, such as 'gone.png'; tried {sandbox.folder}/gone.png" in said
        assert "--drop-broken" in said
        report = imported(sandbox, table, "--drop-broken")
        assert counts(report) == present()
        assert "images that are missing, left out: 1 (gone.png)" in report["understood"]

    @pytest.mark.parametrize(
        ("written", "cause"),
        [
            ("gone/{}.png", "There is no folder"),
            ("{}", "no ending such as .jpg"),
            ("https://example.org/x/{}.webp", "It is a URL"),
            ("{}.PNG", "in other letters"),
        ],
    )
    def test_the_cause_is_told_where_it_shows(self, written: str, cause: str, sandbox: Sandbox) -> None:
        folder = sandbox.folder / "labels"
        images(folder, "{}.png".format if written.endswith("PNG") else "x{}.png".format)
        lines = [f"{written.format(k)},{';'.join(names_of(row))}" for k, row in enumerate(truth())]
        assert cause in refusal(sandbox, write(folder / "a.csv", ["path,labels", *lines]))

    def test_two_rows_never_have_one_image(self, sandbox: Sandbox) -> None:
        lines = multi_hot(sandbox.folder)
        table = write(sandbox.folder / "a.csv", [*lines, "gone/001.png,0,0,0"])
        assert "001.png' is listed more than once, with different labels" in refusal(sandbox, table)

    def test_paths_are_relative_to_the_table_if_the_images_are_near(self, sandbox: Sandbox) -> None:
        near = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        imported(sandbox, near)
        with (sandbox.folder / "out" / "labels.csv").open() as stream:
            assert next(row["path"] for row in csv.DictReader(stream)) == "../000.png"
        out = sandbox.folder / "far" / "away" / "from" / "it" / "labels.csv"
        assert sandbox.json("import", near, "--out", out)["sample"][0]["path"].startswith(str(sandbox.folder))


def tables_in_doubt(folder: Path) -> dict[str, list[str]]:
    """Tables that leave a question open."""
    hot, lists = multi_hot(folder), listed(folder, separator="|", nothing="none")
    return {
        "minus one": multi_hot(folder, zero="-1"),
        "blank": multi_hot(folder, zero=""),
        "soft": multi_hot(folder, "0.9", "0.1"),
        "sex": [f"{line},{'sex' if k == 0 else k % 2}" for k, line in enumerate(hot)],
        "split": [f"{line},{'split' if k == 0 else 'train' if k % 2 else ''}" for k, line in enumerate(hot)],
        "separator and nothing": lists,
        "alike": [line.replace("dog", "Dog") if k % 2 else line for k, line in enumerate(listed(folder))],
        "quote": [*lists[:2], lists[2].replace(",", ',"'), *lists[3:]],
        "row": [*hot, "000.png,1"],
        "value": [*hot[:-1], hot[-1][:-1] + "l"],
        "missing": [*hot, "gone.png,1,1,0"],
        "twice": [*hot, "000.png,1,1,1"],
        "two lists": [f"{line},{'genre' if k == 0 else 'sunny'}" for k, line in enumerate(listed(folder))],
        "list and columns": [f"{line},{'tags' if k == 0 else 'sunny'}" for k, line in enumerate(hot)],
        "hot lists": ["path\tlabels", *(f"{k:03d}.png\t[1, 0, {k % 2}]" for k in range(N))],
    }


@pytest.mark.parametrize("name", DOUBTFUL)
def test_each_answer_to_a_question_can_be_pasted(name: str, sandbox: Sandbox) -> None:
    """Or leads to another question; in the end the table is there."""
    table = write(sandbox.folder / "a.csv", tables_in_doubt(sandbox.folder)[name])
    lines = answers(refusal(sandbox, table, "--delimiter", "tab" if name == "hot lists" else ","))
    assert lines
    for words in lines:
        assert str(sandbox.folder / "out" / "labels.csv") in words, "the file that was asked for"
        result = sandbox.run(*words[1:], "--fresh")
        while result.exit_code == 1 and (further := answers(result.stderr)):
            result = sandbox.run(*further[0][1:], "--fresh")
        assert result.exit_code == 0, result.stderr


def answers(refused: str) -> list[list[str]]:
    return [shlex.split(line) for line in refused.splitlines() if line.strip().startswith("labeldep import ")]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_files_are_refused_or_read_but_never_a_traceback(name: str, sandbox: Sandbox) -> None:
    meant = SOURCES[name][1](sandbox.folder / "source")
    texts = (".csv", ".txt", ".json", ".jsonl", ".xml")
    files = sorted(file for file in (sandbox.folder / "source").rglob("*") if file.suffix in texts)
    if not files:
        pytest.skip("it has no file of text")
    junk = (
        b'"',
        b"'",
        b",",
        b";",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"#",
        b"\t",
        b"[",
        b"1e999",
        b"",
        b"..",
    )
    rng = np.random.default_rng(0)
    for flags in ((), ("--drop-broken",), ("--no-quotes",), ("--format", "table"), ("--format", "long")) * 4:
        file = files[rng.integers(len(files))]
        sound = file.read_bytes()
        start = int(rng.integers(len(sound)))
        file.write_bytes(sound[:start] + junk[rng.integers(len(junk))] + sound[start + int(rng.integers(10)) :])
        result = sandbox.run("import", meant.source, "--out", sandbox.folder / "labels.csv", "--fresh", *flags)
        assert result.exit_code in (0, 1) and isinstance(result.exception, SystemExit | None), result.exception
        file.write_bytes(sound)


class TestTheCommand:
    def test_nothing_is_overwritten_by_mistake(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        imported(sandbox, table)
        again = sandbox.run("import", table, "--out", sandbox.folder / "out" / "labels.csv")
        assert again.exit_code == 1 and "exists already" in again.stderr and "--fresh" in again.stderr
        imported(sandbox, table, "--fresh")
        onto_itself = sandbox.run("import", table, "--out", table, "--fresh")
        assert onto_itself.exit_code == 1 and "is the source itself" in onto_itself.stderr

    def test_another_ending_is_wrong_usage(self, sandbox: Sandbox) -> None:
        table = write(sandbox.folder / "a.csv", multi_hot(sandbox.folder))
        assert sandbox.run("import", table, "--out", sandbox.folder / "b.json").exit_code == 2

    def test_the_summary_says_what_was_understood(self, sandbox: Sandbox) -> None:
        meant = SOURCES["chexpert"][1](sandbox.folder / "source")
        result = sandbox.run("import", meant.source, "--out", sandbox.folder / "labels.csv")
        assert result.exit_code == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines[0] == f"{meant.source}: CheXpert; 12 rows, 3 labels"
        assert "splits: train 9, val 3, test 0" in lines
        assert "groups: 12" in lines
        assert "ignored columns: Sex, Age, Frontal/Lateral, AP/PA" in lines
        assert "-1 means that a label is unknown: 1 cells" in lines
        assert f"written: {sandbox.folder / 'labels.csv'}" in lines

    def test_the_sample_has_images_of_each_kind(self, sandbox: Sandbox) -> None:
        meant = SOURCES["own"][1](sandbox.folder / "source")
        sample = imported(sandbox, meant.source)["sample"]
        assert len(sample) == 5 and len({row["path"] for row in sample}) == 5
        assert any(len(row["labels"]) > 1 for row in sample)
        assert any(not row["labels"] for row in sample)
        assert any(row["unknown"] == ["dog"] for row in sample)

    def test_names_are_printed_as_data(self, sandbox: Sandbox) -> None:
        lines = [line.replace("dog", "[red]dog\x1b[31m") for line in listed(sandbox.folder)]
        table = write(sandbox.folder / "a.csv", lines)
        result = sandbox.run("import", table, "--out", sandbox.folder / "labels.csv")
        assert "[red]dog\\x1b[31m" in result.stdout

    def test_its_own_table_is_read_again_with_changes(self, sandbox: Sandbox) -> None:
        meant = SOURCES["own"][1](sandbox.folder / "source")
        report = imported(sandbox, meant.source, "--ignore-columns", "boat")
        assert set(counts(report)) == {"beach", "dog"}
        assert json.dumps(report["splits"]) == '{"train": 9, "val": 0, "test": 3}'


def test_a_file_that_was_corrected_is_recognised_anew(sandbox: Sandbox) -> None:
    table = write(sandbox.folder / "a.csv", ["path", "a.png"])
    refusal(sandbox, table)
    write(table, multi_hot(sandbox.folder))
    assert counts(imported(sandbox, table)) == present()


def test_uploads_of_label_studio_are_found_by_their_own_names(sandbox: Sandbox) -> None:
    """Its JSON and its CSV name an image in the same way."""
    rows = list(zip(images(sandbox.folder), truth(), strict=True))
    lines = [
        f"{k},/data/upload/3/1a2b3c4d-{path},{names[0] if len(names) == 1 else quoted(names)},1,2,3"
        for k, (path, row) in enumerate(rows)
        for names in [names_of(row)]
    ]
    table = write(sandbox.folder / "a.csv", ["annotation_id,image,choice,annotator,lead_time,created_at", *lines])
    assert counts(imported(sandbox, table)) == present()


def quoted(names: list[str]) -> str:
    return '"' + json.dumps({"choices": names}).replace('"', '""') + '"' if names else ""
