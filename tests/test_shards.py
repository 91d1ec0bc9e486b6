"""WebDataset shards: the same images from tars as from a folder."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image
from typer.testing import CliRunner, Result

from labeldep_cli.cli import app
from labeldep_cli.datasets import registry, shard_names, table
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.shard_names import expand, find, split_in
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.images import UnreadableImage, read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.reasons import Reason
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.load_features import load_features


def png(seed: int = 0) -> bytes:
    """A small image, different for each seed."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes | str] | list[tuple[str, bytes | str]]) -> Path:
    """A tar of these files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def load(pattern: Path | str, draw: Draw) -> Dataset:
    return registry.load(str(pattern), Path("data"), draw, SilentReporter())


def rows_of(dataset: Dataset) -> dict[str, tuple[str, list[int]]]:
    """{key: (split, labels)} over all splits."""
    return {
        key: (split.name, labels.tolist())
        for split in dataset.splits.values()
        for key, labels in zip(split.paths, split.labels, strict=True)
    }


THREE = {
    "a.png": png(0),
    "a.json": '{"labels": ["sunset", "sea"], "split": "train"}',
    "b.PNG": png(1),
    "b.json": '{"labels": [], "split": "val", "source": "ignored"}',
    "c.png": png(2),
    "c.json": '{"labels": [" sea"], "split": "test"}',
}
EXPECTED = {"a": ("train", [1, 1]), "b": ("val", [0, 0]), "c": ("test", [1, 0])}


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "words"),
        [
            ("x.tar", ["x.tar"]),
            ("x-{08..11}.tar", ["x-08.tar", "x-09.tar", "x-10.tar", "x-11.tar"]),
            ("x-{8..10}.tar", ["x-8.tar", "x-9.tar", "x-10.tar"]),
            ("x-{0..0}.tar", ["x-0.tar"]),
            ("x-{2..0}.tar", ["x-2.tar", "x-1.tar", "x-0.tar"]),
            ("{train,val}-{0..1}", ["train-0", "train-1", "val-0", "val-1"]),
            ("x{,-{0..1}}", ["x", "x-0", "x", "x-1"]),
            ("x-{}.tar", ["x-{}.tar"]),
            ("x-{a}-{b,c}.tar", ["x-{a}-b.tar", "x-{a}-c.tar"]),
            ("x-{0..", ["x-{0.."]),
        ],
    )
    def test_braces(self, pattern, words):
        assert list(expand(pattern)) == words

    def test_files_in_the_pattern_s_order_then_sorted_each_once(self, tmp_path):
        for name in ("x-0.tar", "x-1.tar", "x-2.tar", "y.tar"):
            (tmp_path / name).touch()
        found = [path.name for path in find(tmp_path / "{y,x-*,x-0}.tar")]
        assert found == ["y.tar", "x-0.tar", "x-1.tar", "x-2.tar"]

    def test_a_file_with_braces_in_its_name_is_itself(self, tmp_path):
        (tmp_path / "x-{0..1}.tar").touch()
        assert find(tmp_path / "x-{0..1}.tar") == (tmp_path / "x-{0..1}.tar",)

    def test_missing_ones_are_named(self, tmp_path):
        (tmp_path / "x-2.tar").touch()
        with pytest.raises(
            DatasetError, match=r"5 of the shards .* are not there: .*x-0.tar, .*x-1.tar, .*x-3.tar, \.\.\."
        ):
            find(tmp_path / "x-{0..5}.tar")
        with pytest.raises(DatasetError, match=r"there is no shard .*x-9.tar\nDid you mean 'x-2.tar'"):
            find(tmp_path / "x-9.tar")
        with pytest.raises(
            DatasetError, match=r"there is no shard .*\nIts folder .*nowhere does not exist; put a pattern in quotes"
        ):
            find(tmp_path / "nowhere" / "*.tar")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match=r"there is no shard .*\nThe folder .*empty holds no .tar at all"):
            find(tmp_path / "empty" / "*.tar")

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("miml-train-000.tar", "train"),
            ("VAL_3.tar", "val"),
            ("coco-val2014.tar", "val"),
            ("test.tar", "test"),
            ("training-0.tar", "train"),
            ("x-validation-0.tar", "val"),
            ("x-valid.tar", "val"),
            ("dev_3.tar", "val"),
            ("contest-0.tar", None),
            ("train-val-0.tar", None),
            ("shard-0.tar", None),
        ],
    )
    def test_the_split_in_a_name(self, name, split):
        assert split_in(name) == split

    @pytest.mark.parametrize(
        ("pattern", "stem"),
        [
            ("miml-{000..099}.tar", "miml"),
            ("miml_*.tar", "miml"),
            ("miml-{train,val}-{0..3}.tar", "miml"),
            ("miml-000.tar", "miml-000"),
            ("{000..099}.tar", "animals"),
            ("{train,val}/{0..3}.tar", "animals"),
        ],
    )
    def test_the_data_set_s_name(self, tmp_path, monkeypatch, pattern, stem):
        folder = tmp_path / "animals"
        folder.mkdir()
        monkeypatch.chdir(folder)
        name = shard_names.dataset_name(Path(pattern))
        assert name[:-7] == stem and name == shard_names.dataset_name(folder / pattern)
        assert name != shard_names.dataset_name(tmp_path / pattern)


class TestSamples:
    def test_labels_and_splits_in_json(self, tmp_path, draw):
        dataset = load(write_tar(tmp_path / "x.tar", THREE), draw)
        assert rows_of(dataset) == EXPECTED and dataset.space.names == ("sea", "sunset")
        assert not dataset.named and dataset.notes == () and dataset.drawn == frozenset()

    def test_the_order_in_the_tar_is_the_rows_and_labels_need_not_stand_beside_their_image(self, tmp_path, draw):
        names = ("c.json", "b.PNG", "a.png", "a.json", "c.png", "b.json")
        assert rows_of(load(write_tar(tmp_path / "x.tar", {name: THREE[name] for name in names}), draw)) == EXPECTED

    def test_a_list_or_a_text_and_the_split_in_the_shard_s_name(self, tmp_path, draw):
        write_tar(tmp_path / "x-train-0.tar", {"a.png": png(0), "a.json": '["sunset", "sea"]'})
        write_tar(tmp_path / "x-val-0.tar", {"b.png": png(1), "b.txt": "\n"})
        write_tar(tmp_path / "x-test-0.tar", {"c.png": png(2), "c.txt": b"\xef\xbb\xbf sea;\r\n"})
        assert rows_of(load(tmp_path / "x-*.tar", draw)) == EXPECTED
        write_tar(tmp_path / "x-test-0.tar", {"c.png": png(2), "c.txt": "sea\nsunset;boat"})
        assert load(tmp_path / "x-*.tar", draw).space.names == ("boat", "sea", "sunset")

    def test_json_goes_before_text_and_before_the_shard_s_name(self, tmp_path, draw):
        members = {**THREE, "a.txt": "a caption; no label", "d.png": png(3), "d.json": '["sea"]'}
        rows = rows_of(load(write_tar(tmp_path / "x-val.tar", members), draw))
        assert rows == {**EXPECTED, "d": ("val", [1, 0])}

    def test_the_key_ends_at_the_first_dot_and_other_files_are_passed_over(self, tmp_path, draw):
        members = {
            "my.set/a.seg.png": b"a mask",
            "my.set/._a.png": b"what macOS leaves",
            "my.set/a.cls": "3",
            "README": "no extension",
            "my.set/a.png": png(0),
            "my.set/a.json": '["sea"]',
            "b.jpeg": png(1),
            "b.json": "[]",
            "c.webp": png(2),
            "c.json": "[]",
        }
        assert set(rows_of(load(write_tar(tmp_path / "x.tar", members), draw))) == {"my.set/a", "b", "c"}

    def test_a_further_dot_is_part_of_a_key_that_has_labels_and_other_images_are_counted(self, tmp_path, draw):
        members = {**THREE, "d.v1.png": png(3), "d.v1.json": '{"labels": ["sea"], "subset": "Training"}'}
        members |= {"d.v2.png": png(4), "a.depth.png": png(5)}
        dataset = load(write_tar(tmp_path / "x.tar", members), draw)
        assert rows_of(dataset) == {**EXPECTED, "d.v1": ("train", [1, 0])}
        assert dataset.notes == (
            "2 images with a further dot in the name, but no labels with it, passed over: d.v2.png",
        )

    def test_unknown_labels_groups_and_other_keys(self, tmp_path, draw):
        labels = {"labels": ["sea"], "unknown": ["sunset"], "group": 7, "camera": "x", "split": "train"}
        dataset = load(write_tar(tmp_path / "x.tar", {**THREE, "d.png": png(3), "d.json": json.dumps(labels)}), draw)
        assert rows_of(dataset)["d"] == ("train", [1, -1]) and dataset.ignored == ("source", "camera")
        groups = dict(zip(dataset.splits["train"].paths, dataset.splits["train"].groups, strict=True))
        assert groups["d"] == "7" and all(group == path for path, group in groups.items() if path != "d")

    def test_suspicious_names_are_told(self, tmp_path, draw):
        dataset = load(
            write_tar(tmp_path / "x.tar", {**THREE, "d.png": png(3), "d.json": '{"labels": ["Sea"], "split": "dev"}'}),
            draw,
        )
        assert any("'sea'" in note and "'Sea'" in note for note in dataset.notes)

    def test_lacking_splits_are_drawn(self, tmp_path, draw):
        for shard in range(4):
            members = [(f"{shard}-{n}.png", png(n)) for n in range(25)]
            members += [(f"{shard}-{n}.json", json.dumps(["even"] if n % 2 == 0 else [])) for n in range(25)]
            write_tar(tmp_path / f"x-{shard}.tar", members)
        dataset = load(tmp_path / "x-{0..3}.tar", draw)
        # Nearly a quarter of 100, and 5 % of the rest.
        assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 73, "val": 3, "test": 24}
        for split in dataset.splits.values():
            for row, (key, labels) in enumerate(zip(split.paths, split.labels, strict=True)):
                shard, n = key.split("-")
                assert labels.tolist() == [int(n) % 2 == 0] and split.file(row).tar.name == f"x-{shard}.tar"
                with split.file(row).open("rb") as stream:
                    assert stream.read() == png(int(n))

    def test_long_names_and_text_of_all_scripts(self, tmp_path, draw):
        key = "ü" * 150 + "/" + "x" * 150
        tar = write_tar(tmp_path / "x.tar", {**THREE, f"{key}.png": png(4), f"{key}.json": '["sea", "夕日"]'})
        with pytest.raises(DatasetError, match="only some samples have a split; 'ü"):
            load(tar, draw)
        tar = write_tar(tmp_path / "x-val.tar", {**THREE, f"{key}.png": png(4), f"{key}.json": '["sea", "夕日"]'})
        assert rows_of(load(tar, draw))[key] == ("val", [1, 0, 1])

    def test_a_tar_by_the_tar_command(self, tmp_path, draw):
        if shutil.which("tar") is None:
            pytest.skip("there is no tar command here")
        for name, content in THREE.items():
            file = tmp_path / "img" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        subprocess.run(["tar", "cf", tmp_path / "x.tar", "img"], cwd=tmp_path, check=True)
        dataset = load(tmp_path / "x.tar", draw)
        assert rows_of(dataset) == {f"img/{key}": row for key, row in EXPECTED.items()}
        with dataset.splits["val"].file(0).open("rb") as stream:
            assert stream.read() == THREE["b.PNG"]

    def test_a_shard_by_webdataset_s_own_writer(self, tmp_path, draw):
        webdataset = pytest.importorskip("webdataset")
        with webdataset.ShardWriter(str(tmp_path / "x-%02d.tar"), maxcount=2, verbose=0) as writer:
            for n, (key, split) in enumerate((("a", "train"), ("b", "val"), ("c", "test"))):
                labels = [name for name, value in zip(("sea", "sunset"), EXPECTED[key][1], strict=True) if value]
                writer.write({"__key__": key, "png": png(n), "json": {"labels": labels, "split": split}})
        dataset = load(tmp_path / "x-{00..01}.tar", draw)
        assert rows_of(dataset) == EXPECTED
        for n, split in enumerate(dataset.splits.values()):
            with split.file(0).open("rb") as stream:
                assert stream.read() == png(n)


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"d.png": png(3)}, "x.tar: the image 'd' has no labels\nAdd d.json .* or d.txt"),
            ({"d.json": "[]"}, "x.tar: the sample 'd' has labels but no image\nAdd the image"),
            ({"a.jpg": png(3)}, "x.tar: the sample 'a' has two images\nKeep one"),
            ({"a.json": '{"label": ["sea"]}'}, "x.tar, a.json: there is no 'labels'\nKEY.json holds"),
            ({"a.json": '"sea"'}, "x.tar, a.json: 'labels' is 'sea', not a list of names\nKEY.json holds"),
            ({"a.json": '{"labels": ["sea", 4]}'}, "x.tar, a.json: the label 4 is not a name"),
            ({"a.json": '{"labels": [], "split": "late"}'}, "x.tar, a.json: unknown split 'late'\nA split is train"),
            ({"a.json": '{"labels": [], "split": ["train"]}'}, "x.tar, a.json: unknown split"),
            ({"a.json": '{"labels": '}, "x.tar, a.json: not valid JSON: .*\nKEY.json holds"),
            ({"a.json": "[" * 100_000}, "x.tar, a.json: not valid JSON"),
            ({"a.json": b'["caf\xe9"]'}, "x.tar, a.json: not valid JSON: 'utf-8' codec"),
            ({"a.json": "[]"}, "x.tar: only some samples have a split; 'a' has none\nGive a split to every sample"),
            ({"a.json": '{"labels": ["\\ud800"], "split": "train"}'}, r"x.tar: '\\ud800' holds half of a character"),
            (
                {"a.json": '{"labels": ["sea"], "split": "val"}'},
                "x.tar: no row is in the train split\nMark rows as train",
            ),
            ({"d.png": png(3), "d.txt": b"caf\xe9"}, "x.tar, d.txt: not UTF-8\nSave it as UTF-8"),
        ],
    )
    def test_errors_name_the_sample_and_the_remedy(self, tmp_path, draw, changes, message):
        with pytest.raises(DatasetError, match=message):
            load(write_tar(tmp_path / "x.tar", {**THREE, **changes}), draw)

    def test_a_file_twice(self, tmp_path, draw):
        with pytest.raises(DatasetError, match=r"x.tar holds 'a.json' twice\nKeep one"):
            load(write_tar(tmp_path / "x.tar", [*THREE.items(), ("a.json", "[]")]), draw)

    def test_a_key_in_two_shards(self, tmp_path, draw):
        write_tar(tmp_path / "x-0.tar", THREE)
        write_tar(tmp_path / "x-1.tar", {"b.png": png(9), "b.json": '["sea"]'})
        with pytest.raises(DatasetError, match=r"the sample 'b' is in two shards, .*x-0.tar and .*x-1.tar\nKeys name"):
            load(tmp_path / "x-{0..1}.tar", draw)

    def test_no_labels_at_all(self, tmp_path, draw):
        with pytest.raises(DatasetError, match=r"x.tar names no label"):
            load(write_tar(tmp_path / "x.tar", {"a.png": png(), "a.txt": ""}), draw)

    def test_a_shard_without_images(self, tmp_path, draw):
        with pytest.raises(DatasetError, match=r"x.tar holds no image\nLeave it out"):
            load(write_tar(tmp_path / "x.tar", {}), draw)
        with pytest.raises(DatasetError, match=r"x.tar holds no image"):
            load(write_tar(tmp_path / "x.tar", {"labels.csv": "path,sea\na,1\n"}), draw)

    def test_a_tar_cut_anywhere_is_damaged(self, tmp_path, draw):
        """Wherever it is cut: within a content, a header, between two members or within its end."""
        whole = write_tar(tmp_path / "x.tar", THREE).read_bytes()
        ends = max(at for at in range(0, len(whole), 512) if any(whole[at : at + 512])) + 512
        for length in (0, 1, 300, *range(512, ends + 1, 256)):
            (tmp_path / "x.tar").write_bytes(whole[:length])
            with pytest.raises(
                DatasetError, match=r"x.tar is damaged, truncated or not a tar: .*\nFetch or write it again"
            ):
                load(tmp_path / "x.tar", draw)
        (tmp_path / "x.tar").write_bytes(whole[: ends + 512])
        assert rows_of(load(tmp_path / "x.tar", draw)) == EXPECTED

    def test_a_damaged_header_is_no_end(self, tmp_path, draw):
        content = bytearray(write_tar(tmp_path / "x.tar", THREE).read_bytes())
        second = 512 + -(-len(THREE["a.png"]) // 512) * 512
        assert content[second : second + 6] == b"a.json"
        content[second + 148] ^= 1  # its checksum
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(DatasetError, match=f"damaged, truncated or not a tar: no end where byte {second} is"):
            load(tmp_path / "x.tar", draw)

    @pytest.mark.parametrize(
        ("mode", "suffix"), [("gz", ".tar.gz"), ("gz", ".tgz"), ("bz2", ".tar"), ("xz", ".tar.xz")]
    )
    def test_a_compressed_one_is_refused(self, tmp_path, draw, mode, suffix):
        with tarfile.open(tmp_path / f"x{suffix}", f"w:{mode}"):
            pass
        with pytest.raises(DatasetError, match=r"is compressed: .*\nDecompress it to a plain .tar"):
            load(tmp_path / f"x{suffix}", draw)

    @pytest.mark.parametrize(
        "size", [b"\x80" + bytes(3) + b"\xff" * 8, b"\xff" * 4 + bytes(8)], ids=["huge", "negative"]
    )
    def test_a_size_that_cannot_be(self, tmp_path, draw, size):
        content = bytearray(write_tar(tmp_path / "x.tar", {"a.json": "[]", "a.png": png()}).read_bytes())
        content[124:136] = size
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(DatasetError, match=r"truncated or not a tar: 'a.json' does not end within it"):
            load(tmp_path / "x.tar", draw)

    def test_no_tar_at_all(self, tmp_path, draw):
        (tmp_path / "x.tar").write_text("path,sea\na.png,1\n" * 100)
        with pytest.raises(DatasetError, match=r"x.tar is damaged, truncated or not a tar"):
            load(tmp_path / "x.tar", draw)
        (tmp_path / "y.tar").mkdir()
        with pytest.raises(DatasetError, match=r"y.tar cannot be read: Is a directory"):
            load(tmp_path / "y.tar", draw)


class TestMember:
    def test_contents_are_not_read_while_indexing(self, tmp_path, draw, monkeypatch):
        """Of a tar of one image of 64 MB, little more than headers and labels are read."""
        tar = write_tar(
            tmp_path / "x.tar", {**THREE, "d.png": bytes(1 << 26), "d.txt": "", "e.txt": "", "e.png": png()}
        )
        read = 0

        class Counting(io.BufferedReader):
            def read(self, size=-1):
                nonlocal read
                content = super().read(size)
                read += len(content)
                return content

        monkeypatch.setattr(Path, "open", lambda path, mode: Counting(io.FileIO(path, "r")))
        with pytest.raises(DatasetError, match="only some samples"):
            load(tar, draw)
        assert 0 < read < 20_000

    def test_pickles_small_for_the_workers(self, tmp_path, draw):
        dataset = load(write_tar(tmp_path / "x.tar", THREE), draw)
        members = dataset.splits["train"].members
        assert pickle.loads(pickle.dumps(dataset.splits["train"].file))(0) == members.file(0, "a")
        assert members.offset.dtype == members.size.dtype == np.int64 and members.tar.dtype == np.int32

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", Reason.EMPTY), (b"no image", Reason.NOT_AN_IMAGE), (png()[:-40], Reason.BROKEN)],
    )
    def test_an_unreadable_one_says_why(self, tmp_path, draw, content, reason):
        tar = write_tar(tmp_path / "x.tar", {**THREE, "a.png": content})
        file = load(tar, draw).splits["train"].file(0)
        with pytest.raises(UnreadableImage) as caught:
            read_image(file, PixelRules())
        assert caught.value.reason is reason and str(caught.value.file) == f"{tar}: a"

    def test_its_tar_is_gone_or_cut(self, tmp_path, draw):
        tar = write_tar(tmp_path / "x.tar", THREE)
        file = load(tar, draw).splits["test"].file(0)
        tar.write_bytes(tar.read_bytes()[: file.offset + 20])
        with pytest.raises(UnreadableImage) as cut:
            read_image(file, PixelRules())
        tar.unlink()
        with pytest.raises(UnreadableImage) as gone:
            read_image(file, PixelRules())
        assert (cut.value.reason, gone.value.reason) == (Reason.BROKEN, Reason.MISSING)


def run(folder: Path, *words: object) -> Result:
    where = {"LABELDEP_DATA": str(folder / "data"), "LABELDEP_RUNS": str(folder / "runs")}
    return CliRunner().invoke(app, [str(word) for word in words], env=where)


def run_json(folder: Path, *words: object, code: int = 0) -> dict:
    result = run(folder, *words, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def to_shards(table_file: Path, folder: Path, per_shard: int) -> str:
    """Write a CSV's images and labels as shards, in its order; give their pattern."""
    dataset = table.load(table_file, Draw(0.05, 0.25, 0))
    rows = [
        (path, split.file(row), {"labels": split.space.decode(split.labels[row]), "split": split.name})
        for split in dataset.splits.values()
        for row, path in enumerate(split.paths)
    ]
    n = -(-len(rows) // per_shard)
    for shard in range(n):
        members: dict[str, bytes | str] = {}
        for path, file, said in rows[shard * per_shard : (shard + 1) * per_shard]:
            members[path] = file.read_bytes()
            members[str(Path(path).with_suffix(".json"))] = json.dumps(said)
        write_tar(folder / f"pets-{shard:03d}.tar", members)
    return str(folder / f"pets-{{000..{n - 1:03d}}}.tar")


SMALL = ("--backbone", "squeezenet1_1", "--weights", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(workspace, a CSV of 40 images, one of them broken and two alike; the same as four shards)."""
    folder = tmp_path_factory.mktemp("pets")
    lines = ["path,split,labels"]
    for row in range(40):
        draw_image(folder / "csv" / "img" / f"{row}.png", 7 if row == 39 else row)
        labels = ";".join(name for k, name in enumerate(("cat", "dog", "mat")) if (row >> k) & 1)
        lines.append(f"img/{row}.png,{'train' if row < 24 else 'val' if row < 32 else 'test'},{labels}")
    (folder / "csv" / "img" / "30.png").write_text("no image")
    (folder / "csv" / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder, folder / "csv" / "labels.csv", to_shards(folder / "csv" / "labels.csv", folder / "tars", 11)


def same_features(folder: Path, first: str, second: str, names: dict[str, int], *words: object, code: int = 0) -> None:
    """Extract both data sets, and compare features, labels and skipped rows; `names` are the splits' lengths."""
    given = dict(zip(words[::2], words[1::2], strict=True))
    source = {name: given[f"--{name}"] for name in ("backbone", "weights") if f"--{name}" in given}
    found = {}
    for dataset in (first, second):
        features = folder / f"features-{len(found)}"  # or the second would find what the first has computed
        more = (*words, "--max-skipped", 0.2, "--features-dir", features)
        run_json(folder, "extract", "--dataset", dataset, *more, code=code)
        found[dataset] = [load_features(dataset, name, features_dir=features, **source) for name in names]
    for mine, theirs, length in zip(*found.values(), names.values(), strict=True):
        assert len(mine.paths) == length and mine.space.names == theirs.space.names
        assert [Path(path).with_suffix("").as_posix() for path in mine.paths] == list(theirs.paths)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        np.testing.assert_array_equal(mine.reasons, theirs.reasons)
        assert mine.features().tobytes() == theirs.features().tobytes() and mine.features().any()


class TestCommands:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_the_same_features_as_from_the_folder(self, pets, tmp_path, workers):
        _, csv, shards = pets
        names = {"train": 24, "val": 8, "test": 8}
        same_features(tmp_path, str(csv), shards, names, *SMALL, "--workers", workers, code=3)

    def test_data_finds_what_is_wrong(self, pets):
        folder, csv, shards = pets
        mine, theirs = (run_json(folder, "data", dataset, "--workers", 0, code=3) for dataset in (csv, shards))
        assert theirs["unreadable"] == [{"path": "img/30", "reason": "not an image"}]
        assert theirs["duplicates"] == [{"paths": ["img/7", "img/39"], "splits": ["train", "test"], "leaks": True}]
        same = ("splits", "n_labels", "cooccurrence", "absent_labels", "missing", "held_out")
        assert {key: mine[key] for key in same} == {key: theirs[key] for key in same}

    @pytest.mark.parametrize("mode", [(), ("--full", "--batch-size", 4)], ids=["head", "full"])
    def test_training_and_eval(self, pets, mode, monkeypatch):
        folder, _, shards = pets
        monkeypatch.chdir(Path(shards).parent)
        words = ("--dataset", Path(shards).name, *SMALL, "--workers", 2, "--max-skipped", 0.2, *mode, "--seed", 1)
        pretrained = run_json(folder, "pretrain", *words, "--steps", 2, code=3)
        trained = run_json(folder, "adversarial", *words, "--steps", 2, "--critic-layers", 2, code=3 if mode else 0)
        name = "pets-" + shard_names.dataset_name(Path(shards))[-6:] + "-squeezenet1_1" + ("-full" if mode else "")
        assert Path(pretrained["run"]).name == f"{name}-pretrain-seed1"
        assert Path(trained["run"]).name == f"{name}-adversarial-seed1"
        monkeypatch.chdir(folder)  # the run knows where its shards lie
        scores = run_json(folder, "eval", trained["run"])
        assert scores["n_images"] == 8 and scores["n_labels"] == 3 and scores["skipped"] == []

    def test_an_error_at_the_command_line(self, pets):
        folder, _, shards = pets
        result = run(folder, "extract", "--dataset", shards.replace("003}", "103}"), *SMALL)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: 100 of the shards ") and "Fetch them" in result.stderr

    def test_a_folder_of_shards_is_told_their_pattern(self, pets):
        folder, _, shards = pets
        result = run(folder, "data", Path(shards).parent)
        assert result.exit_code == 1 and f"Name its shards: '{folder}/tars/*.tar'" in result.stderr

    def test_a_slip_is_told_of_tars(self, tmp_path):
        result = run(tmp_path, "data", "shards")
        assert result.exit_code == 1 and ".tar" in result.stderr


def test_miml2000_in_a_tar(shared_data, tmp_path):
    """48 real photos with real weights: the same features from three shards as from the folder."""
    source = shared_data / "miml2000"
    header, *lines = (source / "labels.csv").read_text().splitlines()[:1921:40]
    (tmp_path / "miml").mkdir()
    (tmp_path / "miml" / "images").symlink_to(source / "images")
    (tmp_path / "miml" / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    shards = to_shards(tmp_path / "miml" / "labels.csv", tmp_path / "tars", 16)
    splits = [line.split(",")[1] for line in lines]
    names = {name: splits.count(name) for name in ("train", "val", "test")}
    assert len(lines) == 48 and all(names.values())
    weights = ("--backbone", "squeezenet1_1", "--weights", shared_data / "weights" / "squeezenet1_1.pth")
    same_features(tmp_path, str(tmp_path / "miml"), shards, names, *weights, "--workers", 0)
