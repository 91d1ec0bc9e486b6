"""Foreign forms with a record for each image: JSON, JSONL, Hugging Face's metadata.jsonl and parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import draw_image
from foreign import all_are_files, commands, draw_images, labels_of, read, refusal, splits_of, write_json

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.forms import FORMS

SETS = (["sea", "dog"], [], ["dog"], ["sea"])
EXPECTED = {"0.jpg": "dog sea", "1.jpg": "", "2.jpg": "dog", "3.jpg": "sea"}
NUMBERED = ("dog", "sky", "sea")


def write_lines(file: Path, records: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def records(labels: list[Any], key: str = "labels", path: str = "path", **more: Any) -> list[dict[str, Any]]:
    return [{path: f"{k}.jpg", key: value, **more} for k, value in enumerate(labels)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_images(tmp_path, [f"{k}.jpg" for k in range(4)])


def in_order(found: Foreign) -> dict[str, str]:
    """The labels of each image by name, whatever their order in the source."""
    return {name: " ".join(sorted(labels.split())) for name, labels in labels_of(found).items()}


WRITTEN: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "lists": (list(SETS), {}),
    "texts": ([";".join(names) for names in SETS], {}),
    "texts with commas": ([", ".join(names) for names in SETS], {"label_separator": ","}),
    "lists in texts": ([json.dumps(names) for names in SETS], {}),
    "one text in a list": ([[",".join(names)] if names else [] for names in SETS], {"label_separator": ","}),
    "choices": ([{"choices": names} for names in SETS], {}),
    "objects": ([{"sea": int("sea" in names), "dog": "dog" in names} for names in SETS], {}),
    "objects of present labels": ([dict.fromkeys(names, 1) for names in SETS], {}),
    "1 and 0": ([[int("sea" in names), int("dog" in names)] for names in SETS], {"label_names": ("sea", "dog")}),
    "numbers": ([[NUMBERED.index(n) for n in names] for names in SETS], {"label_names": NUMBERED}),
    "nothing as a word": ([names or ["None"] for names in SETS], {"nothing": ("None",)}),
    "two spellings": ([names[:1] + [n.upper() for n in names[1:]] for names in SETS], {"merge_alike": True}),
    "null": ([names or None for names in SETS], {"blank": "absent"}),
    "shares": ([{name: 0.9 if name in names else 0.1 for name in NUMBERED} for names in SETS], {"threshold": 0.5}),
}


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json"])
@pytest.mark.parametrize("written", WRITTEN)
def test_labels_however_they_are_written(photos: Path, written: str, ending: str) -> None:
    cells, flags = WRITTEN[written]
    write = write_json if ending == ".json" else write_lines
    found = read("records", write(photos / f"a{ending}", records(cells)), **flags)
    assert (
        labels_of(found) == EXPECTED
        or {k: " ".join(sorted(v.split())) for k, v in labels_of(found).items()} == EXPECTED
    )
    assert all_are_files(found)


@pytest.mark.parametrize("written", [name for name, (_, flags) in WRITTEN.items() if flags])
def test_what_is_open_is_asked_and_the_answer_reads_it(photos: Path, written: str) -> None:
    cells, flags = WRITTEN[written]
    file = write_lines(photos / "a.jsonl", records(cells))
    if written == "numbers":  # numbers are names, if they have no others
        found = read("records", file)
        assert labels_of(found) == {"0.jpg": "0 2", "1.jpg": "", "2.jpg": "0", "3.jpg": "2"}
        assert "--label-names" in " ".join(found.understood)
        return
    lines = commands(refusal("records", file))
    wanted = {f"--{name.replace('_', '-')}" for name in flags}
    assert all(wanted <= set(line) for line in lines) and lines


def test_a_key_for_each_label(photos: Path) -> None:
    rows = [{"path": f"{k}.jpg", "sea": k != 1, "dog": 0, "width": 640 + k} for k in range(3)]
    rows[2]["dog"] = 1
    found = read("records", write_json(photos / "a.json", rows))
    assert labels_of(found) == {"0.jpg": "sea", "1.jpg": "", "2.jpg": "dog sea"}
    assert found.rows.ignored == ("width",)
    only = read("records", photos / "a.json", label_columns=("dog",))
    assert only.rows.names == ["dog"] and set(only.rows.ignored) == {"sea", "width"}


def test_a_key_of_0_and_1_that_is_no_label_is_asked_about(photos: Path) -> None:
    rows = [{"path": f"{k}.jpg", "sea": int(k != 1), "is_test": int(k == 3)} for k in range(4)]
    file = write_json(photos / "a.json", rows)
    lines = commands(refusal("records", file))
    assert [line[3] for line in lines] == ["--split-column", "--ignore-columns", "--label-columns"]
    assert list(splits_of(read("records", file, split_column="is_test")).values()) == ["train"] * 3 + ["test"]
    assert read("records", file, ignore_columns=("is_test",)).rows.names == ["sea"]
    assert read("records", file, label_columns=("sea", "is_test")).rows.names == ["is_test", "sea"]


def test_a_key_for_splits_can_be_left_out(photos: Path) -> None:
    file = write_lines(photos / "a.jsonl", records(list(SETS), split="mine"))
    assert "the split is 'mine'" in refusal("records", file).what
    assert read("records", file, ignore_columns=("split",)).rows.splits is None


def test_an_object_of_paths(photos: Path) -> None:
    content = {f"{k}.jpg": names for k, names in enumerate(SETS)}
    assert labels_of(read("records", write_json(photos / "a.json", content))) == EXPECTED


@pytest.mark.parametrize("key", ["split", "subset", "Split", "partition"])
def test_keys_beside_the_labels(photos: Path, key: str) -> None:
    rows = records(list(SETS), group="video 1", fold=2, photographer="Ann")
    for row, word in zip(rows, ("train", "Validation", "TEST", "dev"), strict=True):
        row[key] = word
    found = read("records", write_lines(photos / "a.jsonl", rows))
    assert list(splits_of(found).values()) == ["train", "val", "test", "val"]
    assert found.rows.groups == ["video 1"] * 4 and found.rows.folds == [2] * 4
    assert found.rows.ignored == ("photographer",)


def test_unknown_and_absent_lists(photos: Path) -> None:
    rows = records(list(SETS))
    rows[1]["unknown"] = ["sea"]
    rows[2]["absent"] = []
    found = labels_of(read("records", write_lines(photos / "a.jsonl", rows)))
    assert found == {**EXPECTED, "1.jpg": "?sea", "2.jpg": "dog ?sea"}


@pytest.mark.parametrize(("value", "flag"), [(None, "blank"), (-1, "minus_one")])
def test_values_that_may_mean_absent_are_asked_about(photos: Path, value: object, flag: str) -> None:
    cells = [{"sea": 1, "dog": 1}, {"sea": value, "dog": value}, {"sea": value, "dog": 1}]
    file = write_lines(photos / "a.jsonl", records(cells))
    lines = commands(refusal("records", file))
    assert [line[3:5] for line in lines] == [
        [f"--{flag.replace('_', '-')}", meaning] for meaning in ("absent", "unknown")
    ]
    assert labels_of(read("records", file, **{flag: "absent"})) == {"0.jpg": "dog sea", "1.jpg": "", "2.jpg": "dog"}
    assert labels_of(read("records", file, **{flag: "unknown"}))["1.jpg"] == "?dog ?sea"


def test_null_is_unknown_beside_zeros(photos: Path) -> None:
    cells = [{"sea": 1, "dog": 0}, {"sea": 0, "dog": 1}, {"sea": None, "dog": 1}]
    assert labels_of(read("records", write_lines(photos / "a.jsonl", records(cells))))["2.jpg"] == "dog ?sea"


BROKEN = [
    ({"path": "9.jpg"}, "there is no 'labels'"),
    ({"labels": ["sea"]}, "no path of an image"),
    ({"path": "9.jpg", "labels": 0.5}, "the labels are"),
    ({"path": "9.jpg", "labels": [["sea"]]}, "the labels are"),
    ({"path": "9.jpg", "labels": {"sea": "maybe"}}, "neither 1 nor 0"),
    ({"path": "9.jpg", "labels": ["sea"], "split": "mine"}, "the split is 'mine'"),
    ({"path": "9.jpg", "labels": ["sea"], "fold": "two"}, "the fold is 'two'"),
    ({"path": "0.jpg", "labels": ["dog"]}, "listed more than once"),
]


@pytest.mark.parametrize(("record", "said"), BROKEN)
def test_a_broken_record_is_named_and_can_be_left_out(photos: Path, record: dict[str, Any], said: str) -> None:
    rows = records(list(SETS))
    if "fold" in record or "split" in record:
        rows = records(list(SETS), split="train", fold=1)
        record = {"split": "train", "fold": 1, **record}
    file = write_lines(photos / "a.jsonl", [*rows, record])
    error = refusal("records", file)
    assert said in error.what
    assert "line 5" in error.what or said == "listed more than once"
    (line,) = commands(error)
    assert "--drop-broken" in line
    found = in_order(read("records", file, drop_broken=True))
    assert found == {name: labels for name, labels in EXPECTED.items() if name != record.get("path")}


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_key_that_stands_twice_is_refused(photos: Path, ending: str) -> None:
    text = '{"path": "0.jpg", "labels": ["sea"], "labels": []}'
    (photos / f"a{ending}").write_text(text if ending == ".jsonl" else f"[{text}]")
    assert "the key 'labels' stands twice" in refusal("records", photos / f"a{ending}").what


@pytest.mark.parametrize(
    ("content", "said"), [(b'[{"path"', "not valid JSON"), (b'[{"path": "\xff"}]', "not text in UTF-8")]
)
def test_what_is_no_json_is_refused(photos: Path, content: bytes, said: str) -> None:
    (photos / "a.json").write_bytes(content)
    assert said in refusal("records", photos / "a.json").what


def test_an_encoding_is_given(photos: Path) -> None:
    (photos / "a.json").write_text(json.dumps(records([["été"], []]), ensure_ascii=False), encoding="utf-16")
    assert "été" in read("records", photos / "a.json", encoding="utf-16").rows.names


# Hugging Face


def test_metadata_beside_the_images_of_each_split(tmp_path: Path) -> None:
    draw_images(tmp_path, ["train/0.jpg", "train/1.jpg", "train/2.jpg", "test/3.jpg"])
    write_lines(tmp_path / "train" / "metadata.jsonl", records(list(SETS[:3]), path="file_name"))
    write_lines(tmp_path / "test" / "metadata.jsonl", [{"file_name": "3.jpg", "labels": ["sea"]}])
    found = read("records", tmp_path)
    assert labels_of(found) == EXPECTED
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "train", "2.jpg": "train", "3.jpg": "test"}
    assert all_are_files(found)
    alone = read("records", tmp_path / "train" / "metadata.jsonl")
    assert alone.rows.splits is None and len(alone.rows.paths) == 3


def make_parquet(
    root: Path, name: str, images: list[Path], labels: list[Any], feature: Any = None, **more: Any
) -> Path:
    """A parquet as `datasets` writes it: bytes and path of each image, and the features in the schema."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    held = [{"bytes": image.read_bytes(), "path": image.name} for image in images]
    table = pyarrow.table({"image": held, "labels": labels})
    if feature:
        features = {"image": {"_type": "Image"}, "labels": feature}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    root.mkdir(exist_ok=True)
    parquet.write_table(table, root / name, row_group_size=2)
    return root / name


CLASS_LABEL = {"names": list(NUMBERED), "_type": "ClassLabel"}
FEATURES = {
    "Sequence": {"feature": CLASS_LABEL, "_type": "Sequence"},
    "List": {"feature": CLASS_LABEL, "_type": "List"},
    "list": [CLASS_LABEL],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_parquet_with_named_numbers(photos: Path, feature: str) -> None:
    images = [photos / name for name in EXPECTED]
    numbers = [[NUMBERED.index(name) for name in names] for names in SETS]
    file = make_parquet(photos / "p", "train-00000-of-00001.parquet", images, numbers, FEATURES[feature])
    found = read("parquet", file)
    assert in_order(found) == EXPECTED
    assert found.images is not None
    assert dict(found.images) == {image.name: image.read_bytes() for image in images}


def test_parquet_files_of_a_folder_are_splits_and_names_stay_unique(photos: Path) -> None:
    images = [photos / f"{k}.jpg" for k in range(3)]
    make_parquet(photos / "data", "train-00000-of-00002.parquet", images[:2], list(SETS[:2]))
    make_parquet(photos / "data", "train-00001-of-00002.parquet", images[2:], [["dog"]])
    make_parquet(photos / "data", "test-00000-of-00001.parquet", images[:1], [["sea"]])
    found = read("parquet", photos)
    assert found.rows.paths == ["0.jpg", "0-2.jpg", "1.jpg", "2.jpg"]
    assert found.rows.splits == ["test", "train", "train", "train"]
    assert found.images is not None
    assert [content for _, content in found.images] == [images[k].read_bytes() for k in (0, 0, 1, 2)]


def test_parquet_images_without_names_and_columns_beside(photos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    contents = [(photos / f"{k}.jpg").read_bytes() for k in range(3)]
    parquet.write_table(
        pyarrow.table({"img": contents, "labels": SETS[:3], "split": ["train", "val", "test"], "mask": contents}),
        photos / "photos.parquet",
    )
    found = read("parquet", photos / "photos.parquet")
    assert found.rows.paths == [f"photos-00000{k}.jpg" for k in range(3)]
    assert found.rows.splits == ["train", "val", "test"] and found.rows.ignored == ("mask",)


def test_parquet_with_paths_has_no_images_within(photos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"file_name": list(EXPECTED), "tags": SETS}), photos / "a.parquet")
    found = read("parquet", photos / "a.parquet")
    assert labels_of(found) == EXPECTED and found.images is None and all_are_files(found)


def test_parquet_that_is_none_or_has_no_images(photos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (photos / "a.parquet").write_bytes(b"PAR1")
    assert "no readable parquet file" in refusal("parquet", photos / "a.parquet").what
    parquet.write_table(pyarrow.table({"number": [1], "labels": [["sea"]]}), photos / "b.parquet")
    assert "no column with images; its columns are number, labels" in refusal("parquet", photos / "b.parquet").what


def test_other_json_is_not_taken_for_records(tmp_path: Path) -> None:
    draw_image(tmp_path / "0.jpg", 0)
    for number, content in enumerate(({"name": "x"}, [1, 2], [], {}, [{"a": 1}], "text")):
        file = write_json(tmp_path / f"{number}.json", content)
        assert not FORMS["records"].reader.recognises(file)
        with pytest.raises(DatasetError):
            FORMS["records"].reader.read(file, ImportConfig())
