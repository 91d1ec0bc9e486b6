"""`labeldep features`: the stores at a glance, and features of images that no file has any more let go."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.config import Machine, Workspace
from labeldep_cli.datasets.image_file import Member, file_of, is_gone, key_of
from labeldep_cli.features.cleaning import contents_of
from labeldep_cli.features.store import clean as store_clean
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import VIEWS
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.features.store.write import SegmentWriter
from labeldep_cli.pipelines.features import Cleaning, find_cleaning
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.load_features import load_features

PHOTOS = 24
LONG_AGO = 10**18
GONE = (3, 4, 5, 15, 20)
"""Three photos of train, one of val, one of test: no segment goes as it is."""


class Album:
    """Photos with a table of labels, and commands on them; all of it in one folder."""

    def __init__(self, folder: Path) -> None:
        self.work = folder
        self.photos = folder / "photos"
        for k in range(PHOTOS):
            draw_image(self.photos / f"{k}.png", k)
            os.utime(self.photos / f"{k}.png", ns=(LONG_AGO, LONG_AGO))
        self.write()

    @property
    def there(self) -> list[str]:
        return sorted(path.name for path in self.photos.glob("*.png"))

    def write(self) -> None:
        self.table("labels.csv", self.there)

    def table(self, name: str, photos: list[str]) -> Path:
        numbers = [int(photo.removesuffix(".png")) for photo in photos]
        rows = [f"{k}.png,{'train' if k < 14 else 'val' if k < 18 else 'test'},{k % 2},{k % 3 // 2}" for k in numbers]
        (self.photos / name).write_text("path,split,sea,sky\n" + "\n".join(rows) + "\n")
        return self.photos / name

    def run(self, *words: object, code: int = 0) -> tuple[str, str]:
        where = ("--data-dir", self.work / "data")
        result = CliRunner().invoke(app, [str(word) for word in (*words, *where)])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result.stdout, result.stderr

    def extract(self, *words: object) -> int:
        """Run `labeldep extract`; how many images it encoded."""
        source = ("--backbone", "scenesnet", "--workers", 0, "--device", "cpu", "--json")
        dataset = () if "--dataset" in words else ("--dataset", self.photos)
        found = json.loads(self.run("extract", *source, *dataset, *words)[0])
        return sum(file["computed"] for file in found["files"])

    def clean(self, *words: object, code: int = 0) -> list[dict]:
        return json.loads(self.run("features", "clean", *words, "--json", code=code)[0])["items"]

    def lose(self, numbers: Iterable[int] = GONE) -> None:
        for k in numbers:
            (self.photos / f"{k}.png").unlink()
        self.write()

    def by_photo(self) -> dict[str, bytes]:
        """The features of every photo, bit for bit."""
        parts = [
            load_features(self.photos, split, backbone="scenesnet", data_dir=self.work / "data")
            for split in ("train", "val", "test")
        ]
        return {
            path: row.tobytes() for part in parts for path, row in zip(part.ids, part.features(part.views), strict=True)
        }

    @property
    def stores(self) -> list[FeatureStore]:
        return FeatureStore.all_in(self.work / "data" / "features")

    @property
    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted((self.work / "data" / "features").glob("*/*.h5*"))}


@pytest.fixture
def album(tmp_path: Path) -> Album:
    made = Album(tmp_path)
    assert made.extract() == PHOTOS
    return made


def test_the_list_names_every_store(album: Album) -> None:
    album.extract("--spatial")
    found = json.loads(album.run("features", "--json")[0])
    assert found["features_dir"] == str(album.work / "data" / "features")
    pooled, regions = sorted(found["stores"], key=lambda one: one["spatial"])
    for one in (pooled, regions):
        folder = Path(one["store"])
        assert (one["backbone"], one["images"], one["crops"], one["in_use"]) == ("scenesnet", PHOTOS, 0, False)
        assert one["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
        assert one["broken"] is None and one["last_used"] > "2020" and len(one["weights_sha256"]) == 64
    assert "96x96" in pooled["preprocessing"] and regions["spatial"] is True
    text, _ = album.run("features")
    assert Path(pooled["store"]).name in text and "scenesnet regions" in text


def test_an_empty_place_and_flags_without_clean(tmp_path: Path) -> None:
    _, said = Album(tmp_path).run("features")
    assert "yet: labeldep extract --dataset DATASET" in said
    for flag in (("--yes",), ("--store", "x"), ("--dataset", "x")):
        _, said = Album(tmp_path).run("features", *flag, code=2)
        assert "labeldep features clean" in " ".join(said.split())


def test_images_that_are_gone_are_shown_and_then_removed_and_the_rest_is_bit_equal(album: Album) -> None:
    album.extract("--views", 21)
    before, files = album.by_photo(), album.files
    assert album.clean() == [], "every file is there"
    album.lose()
    (item,) = album.clean()
    (store,) = album.stores
    assert (item["store"], item["images"], item["in_use"], item["removed"]) == (str(store.folder), 5, False, False)
    assert item["why"] == "5 images whose files are gone"
    assert item["bytes"] == 5 * (2 * 256 + 38) + 3 * (VIEWS["crops"] * (2 * 256 + 4) + 34), "3 of them had crops"
    text, said = album.run("features", "clean")
    assert "5 images whose files are gone" in text and "nothing was removed: add --yes" in said
    assert album.files == files, "nothing was touched"

    (item,) = album.clean("--yes")
    assert item["removed"] is True
    assert len(contents_of(album.stores[0])) == PHOTOS - 5
    assert album.extract("--views", 21) == 0, "nothing that is here was lost"
    assert album.by_photo() == {name: row for name, row in before.items() if name in album.there}
    assert album.clean() == []
    assert sum(map(len, album.files.values())) < sum(map(len, files.values()))


def test_a_segment_all_of_whose_images_are_gone_goes_and_an_empty_store_too(album: Album) -> None:
    album.lose(range(PHOTOS))
    (item,) = album.clean("--yes")
    assert item["images"] == PHOTOS and not album.stores
    assert [path.name for path in (album.work / "data" / "features").iterdir()] == ["known-files.sqlite"]


def test_a_folder_that_moved_is_known_by_its_data_set(album: Album) -> None:
    before = album.by_photo()
    album.photos = Path(shutil.move(album.photos, album.work / "elsewhere"))
    (item,) = album.clean()
    assert item["images"] == PHOTOS, "no known file is there"
    assert album.clean("--dataset", album.photos) == []
    assert album.clean("--yes") == [], "once they are known"
    assert album.by_photo() == before


def test_a_touched_file_keeps_its_features_and_a_changed_one_loses_the_old(album: Album) -> None:
    before = album.by_photo()
    os.utime(album.photos / "0.png")
    _, said = album.run("features", "clean")
    assert "1 files were touched since they were read: reading them" in said and "nothing to clean" in said
    draw_image(album.photos / "1.png", 99)
    (item,) = album.clean("--yes")
    assert item["images"] == 1
    assert album.extract() == 1
    after = album.by_photo()
    assert {name for name in after if after[name] != before[name]} == {"1.png"}


def test_a_copy_elsewhere_keeps_an_image(album: Album) -> None:
    other = Album.__new__(Album)
    other.work, other.photos = album.work, album.work / "copies"
    for k in GONE:
        shutil.copy2(album.photos / f"{k}.png", draw_image(other.photos / f"{k}.png", k))
    for k in (1, 16, 21):
        draw_image(other.photos / f"{k}.png", 100 + k)
    other.write()
    assert other.extract() == 3
    album.lose()
    assert album.clean("--yes") == []
    assert other.extract() == 0


def test_rows_that_were_computed_again_go_and_never_come_back(album: Album) -> None:
    """`--fresh` over some of a segment's images leaves their old rows among others that count."""
    some = album.table("some.csv", [f"{k}.png" for k in (0, 1, 2, 14, 18)])
    album.extract("--fresh", "--dataset", some, "--split", "train")
    before = album.by_photo()
    (store,) = album.stores
    assert sum(len(segment) for segment in store.segments("test")) == PHOTOS + 3
    (item,) = album.clean("--yes")
    assert item["why"] == "3 rows that were computed again" and item["images"] == 0
    assert sum(len(segment) for segment in store.reopened().segments("test")) == PHOTOS
    assert album.by_photo() == before


def test_what_nobody_remembers_stays(album: Album) -> None:
    (album.work / "data" / "features" / "known-files.sqlite").unlink()
    album.lose()
    _, said = album.run("features", "clean", "--yes")
    assert f"{PHOTOS} images are of files that labeldep does not remember: they stay" in said
    assert len(contents_of(album.stores[0])) == PHOTOS


@pytest.mark.parametrize("moment", ["amid the copy", "before the name", "before the old one goes"])
def test_a_kill_costs_no_row_that_stays(album: Album, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    album.extract("--views", 21)
    before = album.by_photo()
    album.lose()
    with monkeypatch.context() as patch:
        patch.setattr(store_clean, "_BLOCK", 1)  # a row at a time
        if moment == "amid the copy":
            append = SegmentWriter.append

            def one_row_then_killed(writer: SegmentWriter, *given: np.ndarray) -> None:
                if writer.filled == 4:
                    raise KeyboardInterrupt
                append(writer, *given)

            patch.setattr(SegmentWriter, "append", one_row_then_killed)
        elif moment == "before the name":
            patch.setattr(SegmentWriter, "finish", interrupted)
        else:
            copy = store_clean._copy
            patch.setattr(store_clean, "_copy", lambda *given: (copy(*given), interrupted()))
        album.run("features", "clean", "--yes", code=130)
    rest = {name: row for name, row in before.items() if name in album.there}
    assert album.by_photo() == rest
    album.clean("--yes")
    assert album.clean() == [] and not list((album.work / "data" / "features").glob("*/*.partial"))
    assert len(contents_of(album.stores[0])) == PHOTOS - 5
    assert album.by_photo() == rest
    assert album.extract("--views", 21) == 0


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_store_that_a_process_writes_stays(album: Album) -> None:
    album.lose()
    files = album.files
    (store,) = album.stores
    program = (
        "import sys; from pathlib import Path; from labeldep_cli.files import lock\n"
        f"with lock(Path({str(store.folder / '.lock')!r}), 'it'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        (item,) = album.clean("--yes")
        assert json.loads(album.run("features", "--json")[0])["stores"][0]["in_use"] is True
        text, _ = album.run("features", "clean", "--yes")
        holder.stdin.close()
    assert item["in_use"] is True and item["removed"] is False and "kept: in use" in text
    assert album.files == files
    assert album.clean("--yes")[0]["removed"] is True


def test_what_a_kill_left_is_made_use_of_or_removed(album: Album) -> None:
    before = album.by_photo()
    (store,) = album.stores
    names = sorted(path.name for path in store.folder.iterdir())
    last = store.segments("test")[-1].path
    last.rename(last.with_name(last.name + ".partial"))  # complete, but for its name
    (store.folder / ".crops-000001.h5.writing").write_bytes(b"half")
    (item,) = album.clean()
    assert item["why"] == "left by a kill (complete rows are kept)" and item["bytes"] > 4
    album.clean("--yes")
    assert sorted(path.name for path in store.folder.iterdir()) == names
    assert album.by_photo() == before and album.clean() == []


def test_a_named_store_goes_and_nothing_else(album: Album) -> None:
    album.extract("--spatial")
    pooled, regions = sorted(album.stores, key=lambda store: store.kind.spatial)
    before = album.by_photo()
    (regions.folder / "mine.txt").write_text("a user's own")
    assert album.clean("--store", regions.folder.name)[0]["removed"] is False and len(album.stores) == 2
    (item,) = album.clean("--store", regions.folder.name, "--yes")
    assert (item["why"], item["images"], item["removed"]) == ("named", PHOTOS, True)
    assert [path.name for path in regions.folder.iterdir()] == ["mine.txt"]
    assert album.by_photo() == before and album.stores == [pooled]
    _, said = album.run("features", "clean", "--store", "scenesnet", "--yes", code=1)
    assert "there is no store 'scenesnet'" in said and f"Did you mean '{pooled.folder.name}'" in said


def test_a_broken_store_is_named_and_left(album: Album) -> None:
    (store,) = album.stores
    path = store.segments("test")[0].path
    path.write_bytes(b"no HDF5")
    album.lose()
    _, said = album.run("features", "clean", "--yes")
    assert "test-000001.h5 is no readable HDF5 file (truncated or foreign): the store stays as it is" in said
    assert path.exists()
    assert "no readable HDF5 file" in json.loads(album.run("features", "--json")[0])["stores"][0]["broken"]


def test_a_file_of_the_old_format_is_named(album: Album) -> None:
    old = album.work / "data" / "features" / "coco-resnet101-train.h5"
    old.write_bytes(b"")
    _, said = album.run("features", "clean", "--yes")
    assert f"has an old format that is no longer read: rm {old}" in said and old.exists()


def test_ready_features_are_no_images(album: Album) -> None:
    np.savez(
        album.work / "x.npz", X=np.ones((9, 2), np.float32), Y=np.eye(9, 3, dtype=np.int8), label_names=list("abc")
    )
    _, said = album.run("features", "clean", "--dataset", album.work / "x.npz", code=1)
    assert "holds ready features, no images" in said


def write_tar(path: Path, images: dict[str, bytes]) -> Path:
    """A shard of images, each with one label."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (key, content) in enumerate(images.items()):
            labels = json.dumps({"labels": ["sea" if number % 2 else "sky"]}).encode()
            for suffix, data in {"png": content, "json": labels}.items():
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Album:
    """An album whose photos are in two tars of 12."""
    album = Album(tmp_path)
    photos = {f"{k}": (album.photos / f"{k}.png").read_bytes() for k in range(PHOTOS)}
    for number in range(2):
        keys = list(photos)[number * 12 : number * 12 + 12]
        write_tar(tmp_path / "shards" / f"{number}.tar", {key: photos[key] for key in keys})
    shutil.rmtree(album.photos)
    album.photos = tmp_path / "shards" / "*.tar"
    assert album.extract() == PHOTOS
    return album


def images_of(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        return {
            entry.name.removesuffix(".png"): archive.extractfile(entry).read()
            for entry in archive
            if entry.name.endswith(".png")
        }


def test_images_in_tars_are_known_by_their_place(shards: Album) -> None:
    assert shards.clean() == []
    (shards.photos.parent / "1.tar").unlink()
    (item,) = shards.clean("--yes")
    assert item["images"] == 12 and len(contents_of(shards.stores[0])) == 12


def test_a_tar_that_was_written_again_keeps_its_images(shards: Album) -> None:
    """With one image in front, every image is at another place; one image left the tar."""
    tar = shards.photos.parent / "0.tar"
    images = images_of(tar)
    first = draw_image(shards.work / "first.png", 99).read_bytes()
    write_tar(tar, {"first": first, **images})
    assert shards.clean() == [], "all of them are in the tar"
    assert shards.clean("--yes") == [] and shards.clean() == []
    assert shards.extract() == 1
    write_tar(tar, {key: content for key, content in images.items() if key != "3"})
    (item,) = shards.clean("--yes")
    assert item["images"] == 2, "the one in front, and one of the old ones"
    assert shards.clean() == [] and shards.extract() == 0
    (stored,) = [len(contents_of(store)) for store in shards.stores]
    assert stored == PHOTOS - 1


def test_after_a_new_tar_is_known_it_is_not_read_again(shards: Album) -> None:
    tar = shards.photos.parent / "0.tar"
    write_tar(tar, dict(reversed(images_of(tar).items())))
    os.utime(tar, ns=(LONG_AGO, LONG_AGO))
    assert "1 files were touched" in shards.run("features", "clean", "--yes")[1]
    assert "touched" not in shards.run("features", "clean", "--yes")[1]


def test_a_tar_that_cannot_be_read_now_keeps_its_images(shards: Album) -> None:
    tar = shards.photos.parent / "0.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-20_000])
    _, said = shards.run("features", "clean", "--yes")
    assert "the features of its images stay" in said and "nothing to clean" in said
    tar.write_bytes(content)
    assert shards.extract() == 0


def found_cleaning(album: Album) -> Cleaning:
    workspace = Workspace(data_dir=album.work / "data")
    return find_cleaning(workspace, (), (), Machine(workers=0), SilentReporter())


def test_what_another_command_read_before_the_answer_stays(album: Album) -> None:
    """A renamed folder looks as if it were gone; then `extract` reads it, before the user answers the question."""
    before, old = album.by_photo(), album.photos
    album.photos = album.photos.rename(album.work / "renamed")
    cleaning = found_cleaning(album)
    assert [removal.images for removal in cleaning.removals] == [PHOTOS]
    assert album.extract() == 0
    assert cleaning.remove(SilentReporter()) == []
    assert album.by_photo() == before
    album.photos.rename(old)
    assert cleaning.remove(SilentReporter()) == [], "the old folder is back"
    album.photos = old
    assert album.extract() == 0


def test_only_what_came_back_before_the_answer_stays(album: Album) -> None:
    contents = {k: (album.photos / f"{k}.png").read_bytes() for k in GONE}
    album.lose()
    cleaning = found_cleaning(album)
    assert [removal.images for removal in cleaning.removals] == [len(GONE)]
    for k in GONE[:2]:
        (album.photos / f"{k}.png").write_bytes(contents[k])
    (removed,) = cleaning.remove(SilentReporter())
    assert removed.images == len(GONE) - 2
    album.write()
    assert album.extract() == 0


def test_a_store_that_was_empty_and_is_filled_before_the_answer_stays(album: Album) -> None:
    (store,) = album.stores
    segments = {path: path.read_bytes() for path in store.folder.glob("*.h5")}
    for path in segments:
        path.unlink()
    cleaning = found_cleaning(album)
    assert [removal.why for removal in cleaning.removals] == ["empty"]
    for path, content in segments.items():
        path.write_bytes(content)
    assert cleaning.remove(SilentReporter()) == []
    assert album.extract() == 0


def test_the_list_writes_nothing_and_what_it_names_is_removed(album: Album) -> None:
    known = album.work / "data" / "features" / "known-files.sqlite"
    draw_image(album.photos / "1.png", 99)
    before = known.read_bytes()
    for _ in range(2):
        (item,) = album.clean()
        assert item["why"] == "1 images whose files are gone"
    assert known.read_bytes() == before
    (item,) = album.clean("--yes")
    assert item["images"] == 1 and item["removed"] is True
    assert len(contents_of(album.stores[0])) == PHOTOS - 1


def test_the_features_of_a_replaced_photo_go_after_another_command_has_read_the_new_one(album: Album) -> None:
    draw_image(album.photos / "1.png", 99)
    assert album.extract() == 1
    draw_image(album.photos / "1.png", 98)
    assert album.extract() == 1
    (item,) = album.clean("--yes")
    assert item["images"] == 2
    assert KnownFiles(album.work / "data" / "features").replaced() == [], "no store has them any more"
    assert len(contents_of(album.stores[0])) == PHOTOS
    assert album.clean() == [] and album.extract() == 0


def test_a_replaced_photo_that_is_in_another_file_stays(album: Album) -> None:
    shutil.copy(album.photos / "1.png", album.photos / "24.png")
    draw_image(album.photos / "1.png", 99)
    album.write()
    assert album.extract() == 1
    assert album.clean("--yes") == [] and album.extract() == 0


def test_a_record_of_an_older_version_goes_on(album: Album) -> None:
    known = album.work / "data" / "features" / "known-files.sqlite"
    with closing(sqlite3.connect(known)) as database, database:
        database.execute("DROP TABLE replaced")
    draw_image(album.photos / "1.png", 99)
    (item,) = album.clean()
    assert item["images"] == 1
    assert album.extract() == 1
    (item,) = album.clean("--yes")
    assert item["images"] == 1 and len(contents_of(album.stores[0])) == PHOTOS


def test_a_key_names_its_image(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"a \xff.png")
    member = Member(tmp_path / "x.tar", "k", 512, 99)
    assert file_of(key_of(file)) == file
    back = file_of(key_of(member))
    assert isinstance(back, Member) and (back.tar, back.offset, back.size) == (member.tar, 512, 99)
    (tmp_path / "plain").write_bytes(b"")
    assert is_gone(file) and is_gone(member) and is_gone(tmp_path / "plain" / "x.png")
    assert not is_gone(tmp_path / "plain") and not is_gone(tmp_path / ("x" * 5000)), "no word on it"
