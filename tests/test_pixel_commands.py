"""A data set of pixels with more than 8 bits, from `data` to `predict`; folders with all kinds of files."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image
from sandbox import LABELS, Sandbox, make_table, only
from typer.testing import Result

from benchmarks.pixels import png, tiff, written
from labeldep_cli import LabeldepError, load, load_features
from labeldep_cli.models.backbones import Backbone

QUIET = ("--workers", 0)
BACKBONE = ("--backbone", "scenesnet")
NAMED = ("--value-range", "0,4095")


def deepen(sandbox: Sandbox, factor: int = 16) -> None:
    """Replace the images of a data set by grey ones of 12 bits in 16."""
    for path in sandbox.table.parent.glob("img/*.png"):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L")).astype(int)
        path.write_bytes(written(grey * factor, np.uint16, "PNG"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run on 12 bits, whose range is named."""
    sandbox = Sandbox(tmp_path_factory.mktemp("deep"))
    make_table(sandbox.table.parent, rows=30)
    deepen(sandbox)
    result = sandbox.run("pretrain", "--dataset", sandbox.table, *BACKBONE, *NAMED, "--steps", 3, *QUIET)
    assert result.exit_code == 0, result.stderr
    return sandbox


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run on 8 bits."""
    sandbox = Sandbox(tmp_path_factory.mktemp("usual"))
    make_table(sandbox.table.parent, rows=30)
    result = sandbox.run("pretrain", "--dataset", sandbox.table, *BACKBONE, "--steps", 3, *QUIET)
    assert result.exit_code == 0, result.stderr
    return sandbox


def paste(sandbox: Sandbox, result: Result) -> Result:
    """Run the command in an error's remedy."""
    (line,) = [line.strip() for line in result.stderr.splitlines() if line.strip().startswith("labeldep ")]
    return sandbox.run(*shlex.split(line)[1:], *QUIET)


class TestRange:
    def test_data_names_what_was_measured_and_the_flag(self, made: Sandbox):
        result = made.run("data", made.table, *QUIET)
        assert result.exit_code == 3
        assert "30 images (img/0.png) have more than 8 bits, values " in result.stdout
        assert "is unclear: name it, --value-range 0,4095\n" in result.stdout
        deep = made.json("data", made.table, *QUIET, code=3)["pixels"]["more_than_8_bits"]
        assert deep["need_a_range"] == {"images": 30, "example": "img/0.png"} and deep["suggested_range"] == "0,4095"
        named = made.json("data", made.table, *NAMED, *QUIET)["pixels"]
        assert named["value_range"] == named["more_than_8_bits"]["range"] == "0,4095"
        assert named["more_than_8_bits"]["clipped"]["images"] == 0
        narrow = made.run("data", made.table, "--value-range", "0,1000", *QUIET)
        assert "over 1 % of the values are outside 0,1000" in narrow.stdout

    def test_extract_refuses_and_its_remedy_works(self, made: Sandbox, tmp_path: Path):
        sandbox = Sandbox(tmp_path)
        shutil.copytree(made.table.parent, sandbox.table.parent)
        refused = sandbox.run("extract", "--dataset", sandbox.table, *BACKBONE, *QUIET)
        assert refused.exit_code == 1
        assert "more than 8 bits, and no value range is named" in refused.stderr
        pasted = paste(sandbox, refused)
        assert pasted.exit_code == 0, pasted.stderr
        used = [store for store in sandbox.json("features")["stores"] if store["images"]]
        assert len(used) == 1 and "on white, values 0,4095 as 0,255" in used[0]["preprocessing"]
        again = sandbox.json("extract", "--dataset", sandbox.table, *BACKBONE, *NAMED, *QUIET)
        assert [file["computed"] for file in again["files"]] == [0, 0, 0]

    def test_images_without_a_range_are_skipped_until_it_is_named(self, usual: Sandbox, tmp_path: Path):
        sandbox = Sandbox(tmp_path)
        shutil.copytree(usual.table.parent, sandbox.table.parent)
        grey = np.arange(0, 4080, 17)[:192].reshape(12, 16)
        (sandbox.table.parent / "img" / "3.png").write_bytes(written(grey, np.uint16, "PNG"))
        extract = ("extract", "--dataset", sandbox.table, *BACKBONE, *QUIET, "--max-skipped", 0.5)
        first = sandbox.run(*extract)
        assert first.exit_code == 3
        assert "skipped: img/3.png: more than 8 bits, and no value range is named" in first.stderr
        assert "--value-range 0,4095" in first.stderr
        again = sandbox.json(*extract, code=3)
        assert [file["computed"] for file in again["files"]] == [0, 0, 0], "the skipped image is remembered"
        named = sandbox.json(*extract, *NAMED)
        assert named["skipped"] == [] and named["files"][0]["computed"] == 18

    def test_features_are_those_of_the_8_bit_photo(self, made: Sandbox, tmp_path: Path):
        """12 bits scaled by 0,4080 are the 8 bits that they were made from."""
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, rows=30)
        for path in sandbox.table.parent.glob("img/*.png"):
            with Image.open(path) as image:
                image.convert("L").save(path)
        found = []
        for table, value_range in ((sandbox.table, None), (made.table, "0,4080")):
            named = ("--value-range", value_range) if value_range else ()
            assert sandbox.run("extract", "--dataset", table, *BACKBONE, *named, *QUIET).exit_code == 0
            cache = load_features(table, backbone="scenesnet", value_range=value_range, data_dir=tmp_path / "data")
            found.append(cache.features())
        np.testing.assert_array_equal(*found)

    def test_a_run_s_own_range_is_used_wherever_its_images_are_read(self, made: Sandbox, tmp_path: Path):
        image = made.table.parent / "img" / "29.png"
        run = only(made.folder / "runs", "*-pretrain")
        (told,) = [
            json.loads(line) for line in made.run("predict", image, "--json", "--all", *QUIET).stdout.splitlines()
        ]
        assert set(told["probabilities"]) == set(LABELS)
        assert made.run("eval", *QUIET).exit_code == 0
        (prediction,) = load(run).predict(image)
        assert prediction.probabilities == pytest.approx(told["probabilities"], abs=1e-6)
        with Image.open(image) as opened:
            (prediction,) = load(run).predict(opened)
        assert prediction.probabilities == pytest.approx(told["probabilities"], abs=1e-6)
        assert made.run("predict", image, "--annotate", tmp_path / "copies", *QUIET).exit_code == 0
        with Image.open(tmp_path / "copies" / "29.png") as copy:
            assert np.asarray(copy)[:32, 140:180].mean() > 80, "not nearly black"
        exported = made.json("export", run, "--format", "torch", "--out", tmp_path / "x.pt2")
        assert exported["checked"]["from"] == "images of its test split"
        text = exported["input"]["preprocessing"]
        assert "values 0,4095 of pixels with more than 8 bits" in text and "composed on white" in text
        assert made.run("report", run, "--out", tmp_path / "report.html", *QUIET).exit_code == 0
        other = made.run("predict", image, "--value-range", "0,255", *QUIET)
        assert other.exit_code == 0 and "was trained with --value-range 0,4095: 0,255 is not used" in other.stderr

    def test_a_run_on_8_bits_labels_12_bits_once_their_range_is_named(self, usual: Sandbox, made: Sandbox):
        images = [made.table.parent / "img" / f"{k}.png" for k in range(3)]
        result = usual.run("predict", *images, *QUIET)
        assert result.exit_code == 1
        assert "3 images with more than 8 bits were skipped" in result.stderr
        assert "--value-range 0,4095" in result.stderr, result.stderr
        assert usual.run("predict", *images, *NAMED, *QUIET).exit_code == 0
        run = only(usual.folder / "runs", "*-pretrain")
        with pytest.raises(LabeldepError, match="no value range is named"):
            load(run).predict(images[0])
        assert load(run, value_range="0,4095").predict(images)

    def test_a_stage_does_not_start_from_another_range(self, made: Sandbox):
        words = ("--from", "pretrain", "--dataset", made.table, *BACKBONE, "--steps", 2, *QUIET)
        refused = made.run("adversarial", *words, "--value-range", "0,8000")
        assert refused.exit_code == 1
        assert "values 0,4095" in refused.stderr and "values 0,8000" in refused.stderr
        assert "--value-range 0,4095" in refused.stderr

    def test_a_negative_range_is_no_flag(self, tmp_path: Path):
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, rows=4)
        for path in sandbox.table.parent.glob("img/*.png"):
            path.write_bytes(tiff(np.arange(-1000, 1000, 10).reshape(10, 20), np.int16))
        refused = sandbox.run("extract", "--dataset", sandbox.table, *BACKBONE, *QUIET)
        assert "--value-range -1024,3071" in refused.stderr
        assert paste(sandbox, refused).exit_code == 0


class TestLooks:
    def test_images_of_one_colour_are_named(self, tmp_path: Path):
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, rows=8)
        for k, colour in enumerate(("black", "white", "red", "blue")):
            Image.new("RGB", (5, 5), colour).save(sandbox.table.parent / "img" / f"{k}.png")
        result = sandbox.run("data", sandbox.table, *QUIET)
        assert "1 image (img/0.png) is entirely black" in result.stdout
        assert "1 image (img/1.png) is entirely white" in result.stdout
        assert "2 images (img/2.png) are of one colour only" in result.stdout

    def test_the_background_is_part_of_the_store(self, tmp_path: Path):
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, rows=6)
        clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
        clear.save(sandbox.table.parent / "img" / "0.png")
        for colour in ("white", "black"):
            extract = ("extract", "--dataset", sandbox.table, *BACKBONE, *QUIET, "--background", colour)
            assert [file["computed"] for file in sandbox.json(*extract)["files"]] == [4, 1, 1]
        told = sandbox.json("data", sandbox.table, "--background", "black", *QUIET)["pixels"]
        assert told["black"] == {"images": 1, "example": "img/0.png"} and told["background"] == "black"

    def test_features_of_an_older_version_are_computed_again_and_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        sandbox = Sandbox(tmp_path)
        make_table(sandbox.table.parent, rows=6)
        extract = ("extract", "--dataset", sandbox.table, *BACKBONE, *QUIET)
        with monkeypatch.context() as older:
            older.setattr(
                Backbone, "preprocessing", lambda row, rules, jpegs="full": f"bilinear {row.side}x{row.side}, "
            )
            sandbox.json(*extract)
        again = sandbox.run(*extract)
        assert again.exit_code == 0
        (store,) = [store for store in sandbox.json("features")["stores"] if "on white" not in store["preprocessing"]]
        assert f"{store['store']} has features of an older version" in again.stderr
        (command,) = [part for part in again.stderr.split("; ") if part.startswith("labeldep features clean")]
        removed = sandbox.run(*shlex.split(command.split(" removes")[0])[1:], "--yes")
        assert removed.exit_code == 0 and len(sandbox.json("features")["stores"]) == 1


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "all"
        draw_image(folder / "a.png", 0)
        for name, kind in (
            ("b.jfif", "JPEG"),
            ("c.TGA", "TGA"),
            ("d.jp2", "JPEG2000"),
            ("e", "JPEG"),
            ("f.orig", "PNG"),
        ):
            Image.open(folder / "a.png").save(folder / name, kind)
        (folder / "g.xmp").write_text("<x/>")
        (folder / "h.txt").write_text("text")
        (folder / "i.txt").write_text("text")
        (folder / "README").write_text("text")
        (folder / ".hidden.png").write_bytes(png(np.zeros((2, 2, 3), np.uint8)))
        (folder / ".git").mkdir()
        draw_image(tmp_path / "elsewhere" / "k.png", 1)
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        (folder / "linked twice").symlink_to(tmp_path / "elsewhere")
        (folder / "around").symlink_to(folder)
        (folder / "dangling.png").symlink_to("nowhere.png")
        return folder

    def test_every_image_is_labelled_and_the_rest_is_told(self, usual: Sandbox, folder: Path):
        result = usual.run("predict", folder, "--json", *QUIET)
        assert result.exit_code == 3
        told = {
            Path(one["path"]).relative_to(folder).as_posix(): one for one in map(json.loads, result.stdout.splitlines())
        }
        assert list(told) == ["a.png", "b.jfif", "c.TGA", "d.jp2", "dangling.png", "e", "f.orig", "linked/k.png"]
        assert [name for name, one in told.items() if "skipped" in one] == ["dangling.png"]
        assert told["dangling.png"]["skipped"] == "a link to a missing file"
        note = f"{folder}: not images: 4 files (.txt 2, .xmp 1, without suffix 1); hidden: 2"
        assert result.stderr.splitlines().count(note) == 1

    def test_a_folder_of_images_needs_no_word(self, usual: Sandbox):
        result = usual.run("predict", usual.table.parent / "img", *QUIET)
        assert result.exit_code == 0 and "not images" not in result.stderr
