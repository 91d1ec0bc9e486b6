"""Decisions of a reviewer: written line by line, read back after a kill, and applied to the labels of a data set."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from sandbox import Sandbox, make_table

from labeldep_cli.config import Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.corrections import Place, content_of, corrected, corrected_rows
from labeldep_cli.datasets.csv_file import read as read_csv
from labeldep_cli.datasets.decision_file import HEADER, append, read
from labeldep_cli.datasets.decisions import Decision, LabelSet, changed_labels, standing
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import SilentReporter

TIME = "2026-11-29T17:20:03Z"


def decision(
    path: str = "a.jpg",
    kind: str = "accept",
    before: str = "",
    after: str = "",
    table: str = "labels.csv",
    unknown: str = "",
    content: str = "",
) -> Decision:
    """A decision; labels are letters, `unknown` those before it."""
    return Decision(
        TIME, "ada", table, path, kind, LabelSet(tuple(before), tuple(unknown)), LabelSet(tuple(after)), content
    )


# The file


@pytest.mark.parametrize(
    "name",
    [
        "sea",
        "a;b",
        " blank ",
        "",
        "[x",
        '"quoted"',
        "a,b",
        "tr\u00fcb",
        "\u202eabc",
        "line\nend",
        "\r",
        "</script>",
        "=1+1",
        "a\u2028b",
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    """Every name of a label, an image, a person and a table, alone and beside another."""
    file = tmp_path / "corrections.csv"
    texts = name or "x"
    one = Decision(TIME, texts, texts, texts, "edit", LabelSet((name,)), LabelSet((name, "b"), ("c", name + "d")), "")
    append(file, [one, decision()])
    assert read(file) == (one, decision())
    assert len(file.read_bytes().splitlines()) == len(file.read_text(encoding="utf-8").split("\n")) - 1 == 3


def test_a_file_is_only_ever_appended_to(tmp_path: Path) -> None:
    file, contents = tmp_path / "corrections.csv", [b""]
    for kind in ("accept", "skip", "undo"):
        append(file, [decision(kind=kind)])
        contents.append(file.read_bytes())
    assert contents[1].splitlines()[0].decode() == ",".join(HEADER)
    assert all(longer.startswith(shorter) and longer > shorter for shorter, longer in itertools.pairwise(contents))


def test_a_line_cut_off_anywhere_is_dropped_and_the_next_decision_takes_its_place(tmp_path: Path) -> None:
    file = tmp_path / "corrections.csv"
    first, last, new = decision("a.jpg", before="x"), decision("b.jpg", "reject", "é", "é"), decision("c.jpg")
    append(file, [first])
    start = len(file.read_bytes())
    append(file, [last])
    whole = file.read_bytes()
    for end in range(start, len(whole)):
        file.write_bytes(whole[:end])
        kept = (first, last) if end == len(whole) - 1 else (first,)  # there only the line end is missing
        assert read(file) == kept
        append(file, [new])
        assert read(file) == (*kept, new)
    for end in range(start):  # the header or the first line
        file.write_bytes(whole[:end])
        kept = read(file)
        append(file, [new])
        assert read(file) == (*kept, new)


def test_threads_and_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    file, n = tmp_path / "corrections.csv", 25
    code = (
        "import sys; from pathlib import Path; from labeldep_cli.datasets.decision_file import append; "
        "from labeldep_cli.datasets.decisions import Decision, LabelSet\n"
        f"for k in range({n}): append(Path(sys.argv[1]), [Decision('t', 'process', 'labels.csv', f'{{k}}' * 50, "
        "'skip', LabelSet(()), LabelSet(()))])"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(file)], env=os.environ) for _ in range(2)]

    def write() -> None:
        for k in range(n):
            append(file, [decision(str(k) * 50, "skip")])

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    found = read(file)
    assert len(found) == 5 * n
    assert sum(one.who == "process" for one in found) == 2 * n


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,label\na.jpg,sea\n", "no list of decisions"),
        (",".join(HEADER) + "\nt,w,labels.csv,a.jpg,x\n", "line 2: 5 fields, not 10"),
        (",".join(HEADER) + "\nt,w,labels.csv,a.jpg,,,,,,maybe\n", "line 2: the decision 'maybe' is none of accept"),
        (",".join(HEADER) + "\nt,w,labels.csv,,,,,,,skip\n", "line 2: the path is empty"),
        (",".join(HEADER) + '\nt,w,labels.csv,a,"[1]",,,,,edit\n', "line 2: a list of names.0.: expected str, got int"),
        (",".join(HEADER) + "\nt,w,labels.csv,a,[1,,,,,edit\n", "line 2: "),
        (",".join(HEADER) + '\n"t,w,labels.csv,a,[1,,,,,edit\n', "is damaged"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "corrections.csv"
    file.write_text(content)
    with pytest.raises(DatasetError, match=told) as caught:
        read(file)
    assert "--no-corrections" in caught.value.remedy


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"path,label\na.jpg,sea", "no list of decisions"),
        (b"date", "no list of decisions"),
        (b"x" * 200_000, "no list of decisions"),
        (",".join((*HEADER, "note")).encode(), "no list of decisions"),
        (b"\xff\xfe", "not in UTF-8"),
        ("\n".join([",".join(HEADER), "t,w,labels.csv,caf\u00e9,,,,,,skip", ""]).encode("latin-1"), "not in UTF-8"),
        (",".join(HEADER).encode("utf-16"), "not in UTF-8"),
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes, end: str, told: str) -> None:
    """Nothing of it is taken for a line that a kill has cut off, and removed."""
    file = tmp_path / "corrections.csv"
    file.write_bytes(content + end.encode())
    for action in (lambda: read(file), lambda: append(file, [decision()])):
        with pytest.raises(DatasetError, match=told) as caught:
            action()
        assert "--no-corrections" in caught.value.remedy
    assert file.read_bytes() == content + end.encode()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("ended", [True, False])
def test_a_file_that_a_spreadsheet_has_saved(
    tmp_path: Path, delimiter: str, end: str, encoding: str, quoting: int, ended: bool
) -> None:
    """It is read, and goes on as it is."""
    file = tmp_path / "corrections.csv"
    before = [decision("a;b.jpg", before="xy", after="x"), decision("\u00e9,c.jpg", after="z", unknown="x")]
    append(file, before)
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    text = stream.getvalue()
    file.write_bytes((text if ended else text.removesuffix(end)).encode(encoding))
    assert read(file) == tuple(before)
    for n in (1, 2):
        append(file, [decision("new;1.jpg", before="x", after="xyz")])
        assert read(file) == (*before, *[decision("new;1.jpg", before="x", after="xyz")] * n)


def test_lists_of_many_labels(tmp_path: Path) -> None:
    """As of a data set in which most labels are unknown: its lines are longer than a csv reader takes by itself."""
    names = tuple(f"label number {k}" for k in range(20_000))
    one = replace(decision(), before=LabelSet((), names), after=LabelSet(names[:1], names[1:]))
    append(tmp_path / "corrections.csv", [one])
    append(tmp_path / "corrections.csv", [decision()])
    assert read(tmp_path / "corrections.csv") == (one, decision())


# What stands


def test_undo_takes_back_the_last_decision_on_its_image() -> None:
    first, second, other = decision("a", "reject"), decision("a", "edit", after="x"), decision("b", "skip")
    undo = decision("a", "undo")
    assert standing([first, second, other, undo]) == {"a": (first,), "b": (other,)}
    assert standing([first, undo, undo, second]) == {"a": (second,)}, "there was nothing to take back"


def test_the_labels_that_a_decision_changed() -> None:
    assert changed_labels(decision(before="ab", after="bc", unknown="d")) == {"a": (1, 0), "c": (0, 1), "d": (-1, 0)}
    assert changed_labels(decision(kind="skip", before="ab", after="b")) == {}


# What is applied


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six images; cell by cell."""
    file = tmp_path / "labels.csv"
    rows = ["path,split,a,b,c", "1,train,1,0,0", "2,train,0,1,-1", "3,val,1,1,1", "4,test,0,0,0", "5,train,0,0,1"]
    file.write_text("\n".join(rows) + "\n")
    return file


def opened(table: Path, corrections: bool = True) -> Dataset:
    return registry.load_source(Source(str(table), corrections=corrections), table.parent, SilentReporter())


def labels(dataset: Dataset) -> dict[str, list[int]]:
    return {
        path: split.labels[row].tolist() for split in dataset.splits.values() for row, path in enumerate(split.paths)
    }


def test_only_what_was_decided_is_changed(table: Path) -> None:
    written = labels(opened(table))
    append(
        table.parent / "corrections.csv",
        [
            decision("1", "accept", "a", "ab"),
            decision("2", "edit", "b", "b", unknown="c"),
            decision("3", "reject", "abc", "abc"),
            decision("4", "skip"),
            decision("5", "accept", "c", "", table="other.csv"),
        ],
    )
    found = opened(table)
    assert labels(found) == {**written, "1": [1, 1, 0], "2": [0, 1, 0]}
    told = found.corrections
    assert told is not None
    assert (told.decided, told.images, told.labels, told.skipped) == ({"1", "2", "3"}, 2, 2, 1)
    assert not told.conflicts and not told.gone
    assert labels(opened(table, corrections=False)) == written
    assert opened(table, corrections=False).corrections is None


def test_a_second_decision_and_an_undo(table: Path) -> None:
    file = table.parent / "corrections.csv"
    append(file, [decision("1", "accept", "a", ""), decision("1", "edit", "", "bc")])
    assert labels(opened(table))["1"] == [0, 1, 1]
    append(file, [decision("1", "undo", "bc", "")])
    assert labels(opened(table))["1"] == [0, 0, 0]
    append(file, [decision("1", "undo", "", "a")])
    assert labels(opened(table))["1"] == [1, 0, 0]


@pytest.mark.parametrize("written", [1, 0, -1])
@pytest.mark.parametrize(("before", "after"), [*itertools.permutations((1, 0, -1), 2)])
def test_a_value_that_is_neither_of_the_two_is_a_conflict(table: Path, written: int, before: int, after: int) -> None:
    """All values of a table's label against all corrections of it; the other correction of the image is applied."""
    table.write_text(f"path,split,a,b\n1,train,{written},0\n2,test,1,0\n3,val,0,1\n")
    sets = [LabelSet(("a",) if value == 1 else (), ("a",) if value == -1 else ()) for value in (before, after)]
    sets[1] = replace_present(sets[1], "b")
    append(table.parent / "corrections.csv", [replace(decision("1", "edit"), before=sets[0], after=sets[1])])
    found = opened(table)
    fits = written in (before, after)
    assert labels(found)["1"] == [after if fits else written, 1]
    told = found.corrections
    assert told is not None
    assert [(one.path, one.label) for one in told.conflicts] == ([] if fits else [("1", "a")])
    assert (told.images, told.labels) == (1, 2 if fits and written != after else 1)
    assert told.decided == ({"1"} if fits else set()), "an image in conflict is looked at again"


def test_what_is_decided_again_on_the_row_as_it_is_conflicts_no_more(table: Path) -> None:
    file = table.parent / "corrections.csv"
    append(file, [decision("4", "edit", "", "ab", unknown="a")])  # a was unknown when it was decided
    found = opened(table).corrections
    assert found is not None and [one.label for one in found.conflicts] == ["a"]
    append(file, [decision("4", "reject", "b", "b")])
    found = opened(table).corrections
    assert found is not None and not found.conflicts and found.decided == {"4"}
    assert labels(opened(table))["4"] == [0, 1, 0]


def replace_present(labels: LabelSet, name: str) -> LabelSet:
    return LabelSet((*labels.present, name), labels.unknown)


def test_images_and_labels_that_are_gone_are_told(table: Path) -> None:
    append(table.parent / "corrections.csv", [decision("9", "accept", "a", ""), decision("1", "edit", "ax", "a")])
    told = opened(table).corrections
    assert told is not None
    assert told.gone == ("9",)
    assert [(one.label, one.reason) for one in told.conflicts] == [("x", "no label any more")]
    assert told.words == (
        f"{told.file}: 0 images decided, 0 labels of 0 images corrected, "
        "1 correction left out, since the table has changed, 1 image gone"
    )


def test_a_correction_moves_no_row(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = [f"{k}.jpg,{k % 2},{k % 3 == 0:d}" for k in range(40)]
    table.write_text("path,a,b\n" + "\n".join(rows) + "\n")
    before = opened(table)
    append(tmp_path / "corrections.csv", [decision(f"{k}.jpg", "edit", "a" * (k % 2), "b") for k in range(0, 40, 3)])
    after = opened(table)
    assert [split.paths for split in before.splits.values()] == [split.paths for split in after.splits.values()]
    assert any(before.splits[name].fingerprint != after.splits[name].fingerprint for name in before.splits)


def test_rows_for_a_new_table(table: Path) -> None:
    append(table.parent / "corrections.csv", [decision("1", "accept", "a", "ab")])
    rows, told = corrected_rows(read_csv(table), table)
    assert rows.labels[0].tolist() == [1, 1, 0]
    assert rows.labels[1:].tolist() == read_csv(table).labels[1:].tolist()
    assert (told.images, list(rows.paths), rows.splits) == (1, list("12345"), read_csv(table).splits)


def test_import_writes_them_into_a_new_table(table: Path) -> None:
    sandbox = Sandbox(table.parent)
    for number in range(1, 6):
        draw_image(table.parent / f"{number}.png", number)
    table.write_text(re.sub(r"^(\d),", r"\1.png,", table.read_text(), flags=re.MULTILINE))
    append(table.parent / "corrections.csv", [decision("1.png", "accept", "a", "ab")])
    result = sandbox.run("import", table, "--out", table.parent / "new.csv")
    assert result.exit_code == 0, result.stderr
    assert "1 image decided, 1 label of 1 image corrected" in result.stdout
    assert labels(opened(table.parent / "new.csv")) == labels(opened(table))
    assert sandbox.run("import", table, "--out", table.parent / "plain.csv", "--no-corrections").exit_code == 0
    assert labels(opened(table.parent / "plain.csv")) == labels(opened(table, corrections=False))


# Every kind of data set


def test_shards(tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"x-{number}.tar", "w") as tar:
            for key in range(2):
                image = draw_image(tmp_path / "img" / f"{number}{key}.png", number * 2 + key)
                tar.add(image, f"{number}{key}.png")
                (tmp_path / "l.txt").write_text("a;b")
                tar.add(tmp_path / "l.txt", f"{number}{key}.txt")
    pattern = tmp_path / "x-{0..1}.tar"
    place = Place.of(pattern)
    assert place == Place(tmp_path / "corrections.csv", "x-{0..1}.tar")
    append(place.file, [decision("01", "edit", "ab", "a", table=place.table)])
    assert labels(opened(pattern))["01"] == [1, 0]


def test_ready_features_are_known_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    x, y = np.arange(24, dtype=np.float32).reshape(8, 3), np.eye(8, 2, dtype=np.int8)
    np.savez(file, X=x, Y=y, label_names=np.array(["a", "b"]))
    dataset = opened(file)
    split, row = next((s, s.paths.index("row-2")) for s in dataset.splits.values() if "row-2" in s.paths)
    content = content_of(split, row)
    append(tmp_path / "corrections.csv", [decision("row-2", "accept", "", "b", table="x.npz", content=content)])
    assert labels(opened(file))["row-2"] == [0, 1]
    np.savez(file, X=x[1:], Y=y[1:], label_names=np.array(["a", "b"]))  # row-2 is now another row
    found = opened(file)
    assert labels(found)["row-2"] == [0, 0]
    assert found.corrections is not None and found.corrections.gone == ("row-2",)


def test_named_data_sets_have_a_place(shared_data: Path, nuswide_folder: Path) -> None:
    for name, data_dir in (("coco", shared_data), ("nuswide", nuswide_folder), ("nuswide-official", nuswide_folder)):
        dataset = registry.load_source(Source(name), data_dir, SilentReporter())
        folder = data_dir / name.removesuffix("-official")
        assert dataset.place == folder
        assert Place.of(folder) == Place(folder / "corrections.csv", folder.name)


def test_a_named_data_set_is_corrected(shared_data: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "coco").mkdir()
    for entry in (shared_data / "coco").iterdir():
        (data_dir / "coco" / entry.name).symlink_to(entry)
    dataset = registry.load_source(Source("coco"), data_dir, SilentReporter())
    path, names = dataset.splits["test"].paths[0], dataset.space.decode(dataset.splits["test"].labels[0])
    change = replace(decision(path, "accept", table="coco"), before=LabelSet(names), after=LabelSet(names[1:]))
    append(data_dir / "coco" / "corrections.csv", [change])
    found = registry.load_source(Source("coco"), data_dir, SilentReporter())
    assert found.space.decode(found.splits["test"].labels[0]) == names[1:]


def test_a_data_set_without_a_place_is_as_it_was(table: Path) -> None:
    dataset = replace(opened(table, corrections=False), place=None)
    assert corrected(dataset) is dataset


# Commands


def test_data_tells_what_is_applied_and_what_is_not(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, rows=20)
    lines = sandbox.table.read_text().splitlines()
    lines[1:3] = ["img/0.png,train,1,0,0", "img/1.png,train,1,0,0"]
    sandbox.table.write_text("\n".join(lines) + "\n")
    cat, none = LabelSet(("cat",)), LabelSet(())
    append(
        sandbox.table.parent / "corrections.csv",
        [
            replace(decision("img/0.png", "edit"), before=cat, after=LabelSet(("dog", "mat"))),
            replace(decision("img/1.png", "edit"), before=LabelSet((), ("cat",)), after=none),
            replace(decision("img/gone.png", "edit"), before=cat, after=none),
        ],
    )
    found = sandbox.json("data", sandbox.table)
    told = found["corrections"]
    assert (told["decided"], told["images"], told["labels"], told["gone"]) == (1, 1, 3, ["img/gone.png"])
    assert [(one["path"], one["label"]) for one in told["conflicting"]] == [("img/1.png", "cat")]
    result = sandbox.run("data", sandbox.table)
    assert "1 image decided, 3 labels of 1 image corrected" in result.stderr
    assert "correction left out: img/1.png: cat is present in the table, but changed from unknown" in result.stdout
    assert "correction left out: img/gone.png is no longer in the data set" in result.stdout
    plain = sandbox.json("data", sandbox.table, "--no-corrections")
    assert plain["corrections"] is None
    assert plain["splits"]["train"] != found["splits"]["train"]


def test_a_table_that_was_renamed_is_told(table: Path, tmp_path: Path) -> None:
    place = Place.of(table)
    append(place.file, [decision("0.png", "skip", table=place.table)])
    new = table.rename(table.with_name("new.csv"))
    told = Sandbox(tmp_path).run("data", new).stderr
    assert f"all decisions are on {place.table}, which is gone" in " ".join(told.split())
    place.file.write_text(place.file.read_text().replace(f",{place.table},", ",new.csv,"))
    assert "which is gone" not in Sandbox(tmp_path).run("data", new).stderr
    append(place.file, [decision("0.png", "skip", table="other.csv")])
    shutil.copy(new, new.with_name("third.csv"))
    assert "which is gone" not in Sandbox(tmp_path).run("data", new.with_name("third.csv")).stderr, "there is new.csv"
