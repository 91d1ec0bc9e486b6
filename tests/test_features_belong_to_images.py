"""Features belong to images: what changes in labels, splits and places computes nothing anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.datasets.table import dataset_name
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.projects.load_features import load_features

PHOTOS = 40
LONG_AGO = 10**18


class Album:
    """Photos with a table of labels, and the commands on them; all of it in one folder."""

    def __init__(self, folder: Path) -> None:
        self.work = folder
        self.photos = folder / "photos"
        self.labels = {f"{k}.png": (k % 2, k % 3 // 2) for k in range(PHOTOS)}
        for k in range(PHOTOS):
            self.add(k)
        self.write()

    def add(self, k: int) -> None:
        draw_image(self.photos / f"{k}.png", k, (40 + k, 50))
        os.utime(self.photos / f"{k}.png", ns=(LONG_AGO, LONG_AGO))
        self.labels.setdefault(f"{k}.png", (1, 0))

    def write(self, name: str = "labels.csv") -> Path:
        lines = [f"{path},{sea},{sky}" for path, (sea, sky) in self.labels.items()]
        (self.photos / name).write_text("path,sea,sky\n" + "\n".join(lines) + "\n")
        return self.photos / name

    def run(self, command: str, *words: object, table: Path | None = None, code: int = 0) -> tuple[dict, str]:
        data = ("--dataset", table or self.photos, "--backbone", "scenesnet", "--data-dir", self.work / "data")
        given = [command, *data, *words, "--workers", 0, "--device", "cpu", "--json"]
        result = CliRunner().invoke(app, [*map(str, given)])
        assert result.exit_code == code, result.stderr
        return json.loads(result.stdout), result.stderr

    def extract(self, *words: object, table: Path | None = None, code: int = 0) -> int:
        """Run `labeldep extract`; how many images it encoded."""
        found, _ = self.run("extract", *words, table=table, code=code)
        return sum(file["computed"] for file in found["files"])

    def features(self, split: str = "train", table: Path | None = None, **source: object) -> FeatureCache:
        return load_features(table or self.photos, split, backbone="scenesnet", data_dir=self.work / "data", **source)

    def by_photo(self, **source: object) -> dict[str, bytes]:
        """The features of every photo, bit for bit."""
        parts = [self.features(split, **source) for split in ("train", "val", "test")]
        return {
            path: row.tobytes() for part in parts for path, row in zip(part.ids, part.features(part.views), strict=True)
        }

    def anew(self, folder: Path, *words: object) -> dict[str, bytes]:
        """The features of every photo by an extraction of its own."""
        self.extract("--features-dir", folder, *words)
        return self.by_photo(features_dir=folder)


@pytest.fixture
def album(tmp_path: Path) -> Album:
    made = Album(tmp_path)
    assert made.extract() == PHOTOS
    return made


def test_a_corrected_label_computes_nothing(album: Album) -> None:
    before = album.by_photo()
    row = int(np.flatnonzero([path == "3.png" for path in album.features("train").paths])[0])
    assert album.features("train").labels[row].tolist() == [1, 0]
    album.labels["3.png"] = (0, 1)
    album.write()
    assert album.extract() == 0
    assert album.by_photo() == before
    assert album.features("train").labels[row].tolist() == [0, 1], "labels are those of the table now"
    album.run("pretrain", "--steps", 3, "--runs-dir", album.work / "runs")


def test_another_split_computes_nothing(album: Album) -> None:
    before = album.by_photo()
    assert album.extract("--val-fraction", 0.3) == 0
    assert album.extract("--split-seed", 7, "--test-fraction", 0.5) == 0
    assert album.by_photo(split_seed=7, test_fraction=0.5) == before


def test_added_photos_alone_are_computed(album: Album, tmp_path: Path) -> None:
    for k in range(PHOTOS, PHOTOS + 10):
        album.add(k)
    album.write()
    _, said = album.run("extract", "--split", "train")
    assert "images of train are there; " in said
    album.extract()
    assert len(album.by_photo()) == PHOTOS + 10
    assert album.by_photo() == album.anew(tmp_path / "fresh"), "bit-equal whatever the order of growth"


def test_a_folder_that_moved_is_recognised(album: Album) -> None:
    before = album.by_photo()
    album.photos = Path(shutil.move(album.photos, album.work / "elsewhere"))
    found, said = album.run("extract")
    assert sum(file["computed"] for file in found["files"]) == 0
    assert "files are new or were touched: reading them" in said
    assert album.by_photo() == before
    _, said = album.run("extract")
    assert "reading them" not in said, "once they are known"


def test_a_touched_file_is_read_and_a_changed_one_is_encoded(album: Album) -> None:
    before = album.by_photo()
    os.utime(album.photos / "5.png", ns=(LONG_AGO, LONG_AGO + 10**9))
    assert album.extract() == 0 and album.by_photo() == before
    draw_image(album.photos / "5.png", 999, (45, 50))
    os.utime(album.photos / "5.png", ns=(LONG_AGO, LONG_AGO + 2 * 10**9))
    assert album.extract() == 1
    after = album.by_photo()
    assert [path for path in before if before[path] != after[path]] == ["5.png"]


def test_two_tables_over_the_same_photos_share(album: Album) -> None:
    album.labels = {path: labels for path, labels in album.labels.items() if path != "0.png"}
    table = album.write("others.csv")
    assert album.extract(table=table) == 0
    assert len(list((album.work / "data" / "features").glob("scenesnet-*"))) == 1


def test_views_and_regions_lie_beside_what_is_there(album: Album, tmp_path: Path) -> None:
    before = album.by_photo()
    rows = len(album.features("train"))
    assert album.extract("--views", 21) == rows, "the crops of train; view 0 is there"
    assert album.features("train").views == 21
    assert all(album.by_photo()[path][: len(row)] == row for path, row in before.items())
    assert album.by_photo() == album.anew(tmp_path / "fresh", "--views", 21)
    album.extract("--spatial")
    assert album.features("train", spatial=True).shape != album.features("train").shape
    album.add(PHOTOS)
    album.write()
    album.extract()
    assert album.features("train").views == 21, "where some rows have crops, all get them"


def test_fresh_computes_all_anew_and_old_segments_go(album: Album) -> None:
    before = album.by_photo()
    (store,) = (album.work / "data" / "features").glob("scenesnet-*")
    segments = {path.name for path in store.glob("*.h5")}
    assert album.extract("--fresh") == PHOTOS
    assert album.by_photo() == before
    assert not segments & {path.name for path in store.glob("*.h5")}


def test_features_of_photos_that_are_gone_are_still_theirs(album: Album) -> None:
    before = album.by_photo()
    for path in album.photos.glob("*.png"):
        path.unlink()
    assert album.extract() == 0 and album.by_photo() == before


def test_a_photo_that_comes_later_is_computed_then(album: Album) -> None:
    album.labels["late.png"] = (1, 1)
    album.write()
    assert album.extract("--max-skipped", 0.2, code=3) == 0
    draw_image(album.photos / "late.png", 77)
    assert album.extract() == 1


def test_an_image_that_cannot_be_used_is_not_read_again_until_it_is_mended(album: Album) -> None:
    (album.photos / "bad.png").write_text("no image")
    os.utime(album.photos / "bad.png", ns=(LONG_AGO, LONG_AGO))
    album.labels["bad.png"] = (1, 1)
    album.write()
    for _ in range(2):
        found, said = album.run("extract", "--max-skipped", 0.2, code=3)
        assert [skip["path"] for skip in found["skipped"]] == ["bad.png"]
    assert "reading them" not in said
    draw_image(album.photos / "bad.png", 78)
    assert album.extract() == 1
    assert len(album.by_photo()) == PHOTOS + 1


def test_a_file_of_the_format_before_is_named(album: Album) -> None:
    old = album.work / "data" / "features" / f"{dataset_name(album.photos / 'labels.csv')}-scenesnet-train.h5"
    old.touch()
    for k in range(PHOTOS, PHOTOS + 8):
        album.add(k)
    album.write()
    _, said = album.run("extract")
    assert f"{old} has a format that is no longer read: its features are computed again, and it can be removed" in said
    old.unlink()
    _, said = album.run("extract", "--fresh")
    assert "no longer read" not in said


def test_load_features_names_the_command_that_computes_what_is_missing(album: Album) -> None:
    album.add(PHOTOS)
    album.write()
    with pytest.raises(Exception, match=r"features of the .* split of photos-.* are missing\nRun: labeldep extract"):
        album.by_photo()
    with pytest.raises(Exception, match="there is no split 'trian'"):
        album.features("trian")
