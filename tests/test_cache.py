"""The feature cache: what it stores, what it refuses, and what it survives."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import draw_image
from torch import nn

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import CacheError, DatasetError, StorageError
from labeldep_cli.features.cache import CacheWriter, FeatureCache, cache_bytes
from labeldep_cli.features.cache import read as reading
from labeldep_cli.features.decode import decode
from labeldep_cli.features.extract import Limit, _ahead, extract_split, try_unread_again
from labeldep_cli.features.images import Reason
from labeldep_cli.features.origin import Origin
from labeldep_cli.inputs.batches import in_order
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.encoder import Encoder

ORIGIN = Origin(
    dataset="scenes",
    split="train",
    fingerprint="f" * 64,
    backbone="resnet101",
    weights_sha256="a" * 64,
    preprocessing="224x224",
    compute_dtype="float32",
    views=2,
    label_names=("sea", "sky", "Hügel"),
    versions={"torch": "2.6"},
)
N, V, F, L = 10, 2, 5, 3


def make_split(n=N, names=ORIGIN.label_names, root=Path("/nowhere")):
    labels = np.random.default_rng(0).integers(-1, 2, (n, len(names)), dtype=np.int8)
    return Split("train", tuple(f"Bilder/ü {k}.png" for k in range(n)), labels, LabelSpace(names), root)


def make_features(n=N):
    return np.random.default_rng(1).normal(size=(n, V, F)).astype(np.float16)


def good(n):
    return np.zeros(n, dtype=np.uint8)


def resume(path, split=None, origin=ORIGIN, fresh=False, width=F):
    return CacheWriter.resume(path, make_split() if split is None else split, (width,), origin, fresh)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scenes-resnet101-train.h5"


@pytest.fixture
def finished(path):
    """A finished cache of ten rows, of which row 4 is skipped."""
    features, reasons = make_features(), good(N)
    features[4], reasons[4] = 0, Reason.BROKEN
    writer = resume(path)
    for start in (0, 4, 8):
        writer.write(start, features[start : start + 4], reasons[start : start + 4])
    writer.finish()
    return path


class TestRoundTrip:
    def test_all_that_was_written_is_read(self, finished):
        cache = FeatureCache.open(finished)
        split, features = make_split(), make_features()
        assert cache.origin == ORIGIN and cache.space == split.space and cache.shape == (F,)
        assert cache.paths == split.paths and (cache.labels == split.labels).all()
        usable = [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert cache.usable.tolist() == usable
        stored = cache.features(2)
        assert stored.dtype == np.float16 and (stored == features[usable]).all()
        assert (cache.features() == features[usable, :1]).all()
        assert [path.name for path in finished.parent.iterdir()] == [finished.name]

    def test_a_skipped_row_is_a_hole(self, finished):
        cache = FeatureCache.open(finished)
        assert cache.reasons.tolist() == [0, 0, 0, 0, Reason.BROKEN, 0, 0, 0, 0, 0]
        (skip,) = cache.skipped(named=False)
        assert (skip.path, skip.reason, skip.missing) == ("Bilder/ü 4.png", "truncated or broken image", False)
        inputs = FeatureInputs.of_cache(cache, 2, False, torch.device("cpu"))
        assert inputs.n_views == 2 and inputs.feature_dim == F and inputs.skipped == (skip,)
        (batch,) = in_order(inputs)
        features, labels = make_features(), make_split().labels
        for place, row in enumerate(cache.usable):  # each row keeps its own labels
            assert inputs.paths[place] == f"Bilder/ü {row}.png"
            assert (batch.x[place].numpy() == features[row, 0]).all()
            assert (batch.y[place].numpy() == labels[row]).all()

    @pytest.mark.parametrize("block", [1, 3, 4, 10])
    def test_the_blocks_it_is_read_in_do_not_show(self, finished, monkeypatch, block):
        whole = FeatureCache.open(finished).features(2)
        monkeypatch.setattr(reading, "_BLOCK", block)
        assert (FeatureCache.open(finished).features(2) == whole).all()

    def test_a_missing_file_counts_apart_in_a_named_data_set(self, path):
        writer, reasons = resume(path), np.full(N, Reason.MISSING, dtype=np.uint8)
        writer.write(0, np.zeros((N, V, F), np.float16), reasons)
        writer.finish()
        cache = FeatureCache.open(path)
        assert len(cache.usable) == 0 and cache.features(2).shape == (0, V, F)
        assert {skip.missing for skip in cache.skipped(named=True)} == {True}
        assert {skip.missing for skip in cache.skipped(named=False)} == {False}

    def test_label_names_of_more_than_64_kib(self, path):
        names = tuple(f"label number {k:06d} ä" for k in range(5000))
        origin = replace(ORIGIN, label_names=names)
        assert len(origin.to_json()) > 100_000
        writer = resume(path, make_split(names=names), origin)
        writer.write(0, make_features(), good(N))
        writer.finish()
        assert FeatureCache.open(path).space.names == names

    def test_a_split_without_rows(self, path):
        writer = resume(path, make_split(0))
        writer.finish()
        cache = FeatureCache.open(path)
        assert cache.paths == () and cache.labels.shape == (0, L) and cache.features(2).shape == (0, V, F)

    def test_its_size_is_foretold(self, path):
        split = make_split(2000)
        writer = resume(path, split, width=64)
        writer.close()
        size = (path.parent / (path.name + ".partial")).stat().st_size
        assert cache_bytes(split, (64,), V) == 2000 * (2 * V * 64 + L + len("Bilder/ü 1999.png".encode()) + 2)
        assert 0 < size - cache_bytes(split, (64,), V) < 16_384


class TestResume:
    def test_goes_on_after_the_rows_that_are_there(self, path):
        features = make_features()
        writer = resume(path)
        writer.write(4, features[4:8], good(4))
        writer.abandon()
        assert not path.exists()
        writer = resume(path)
        assert writer.done.tolist() == [False] * 4 + [True] * 4 + [False] * 2
        for start in (0, 8):
            writer.write(start, features[start : start + 4], good(len(features[start : start + 4])))
        writer.finish()
        assert (FeatureCache.open(path).features(2) == features).all()

    def test_an_unfinished_one_gets_no_name(self, path):
        writer = resume(path)
        writer.write(0, make_features()[:4], good(4))
        with pytest.raises(CacheError, match="unfinished"):
            writer.finish()
        writer.close()
        assert not path.exists()
        partial = path.with_name(path.name + ".partial")
        with pytest.raises(CacheError, match="is unfinished: 4 of 10 rows"):
            FeatureCache.open(partial)

    def test_fresh_drops_what_is_there(self, path):
        writer = resume(path)
        writer.write(0, make_features(), good(N))
        writer.abandon()
        writer = resume(path, fresh=True)
        assert not writer.done.any()
        writer.abandon()

    def test_the_work_of_other_versions_is_dropped(self, path):
        writer = resume(path)
        writer.write(0, make_features(), good(N))
        writer.abandon()
        writer = resume(path, origin=replace(ORIGIN, versions={"torch": "2.7"}))
        assert not writer.done.any()
        writer.abandon()

    @pytest.mark.parametrize("content", [b"", b"a text", b"\x89HDF\r\n\x1a\n cut"])
    def test_a_leftover_that_cannot_be_read_is_replaced(self, path, content):
        path.with_name(path.name + ".partial").write_bytes(content)
        writer = resume(path)
        writer.write(0, make_features(), good(N))
        writer.finish()
        assert (FeatureCache.open(path).features(2) == make_features()).all()

    def test_a_leftover_of_something_else_is_refused(self, path):
        resume(path).abandon()
        with pytest.raises(CacheError, match="weights aaaaaaaaaaaa, wanted bbbbbbbbbbbb") as caught:
            resume(path, origin=replace(ORIGIN, weights_sha256="b" * 64))
        assert "--fresh" in caught.value.remedy

    def test_one_of_another_number_of_views_is_not_dropped(self, path):
        writer = resume(path)
        writer.write(0, make_features(4), good(4))
        writer.close()
        for views in (1, 21):
            with pytest.raises(CacheError, match=f"unfinished with views 2, wanted {views}") as caught:
                resume(path, origin=replace(ORIGIN, views=views))
            assert "Finish it: labeldep extract --views 2" in caught.value.remedy
        writer = resume(path)
        assert writer.done.sum() == 4
        writer.close()

    def test_the_system_s_refusal_is_no_broken_file(self, path, monkeypatch):
        writer = resume(path)
        writer.write(0, make_features(4), good(4))
        writer.close()
        partial = path.with_name(path.name + ".partial")

        def refuse(_):
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr("labeldep_cli.features.cache.write._open_in_work", refuse)
            with pytest.raises(StorageError, match="Too many open files"):
                resume(path)
        assert partial.exists(), "hours of work are not dropped for a passing fault"

    def test_a_kill_loses_at_most_the_rows_under_way(self, path, tmp_path_factory):
        child = run_child(path, tmp_path_factory.mktemp("child"), then="os.kill(os.getpid(), signal.SIGKILL)")
        assert child.returncode == -signal.SIGKILL, child.stderr
        writer = resume(path)
        assert writer.done.tolist() == [True] * 8 + [False] * 2
        writer.write(8, make_features()[8:], good(2))
        writer.finish()
        assert (FeatureCache.open(path).features(2) == make_features()).all()


CHILD = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import StorageError
from labeldep_cli.features.cache import CacheWriter
from labeldep_cli.features.origin import Origin

path, n, features, labels = Path(sys.argv[1]), int(sys.argv[2]), np.load(sys.argv[3]), np.load(sys.argv[4])
origin = Origin.from_json(Path(sys.argv[5]).read_text(encoding="utf-8"))
names = tuple(f"Bilder/ü {k}.png" for k in range(n))
split = Split("train", names, np.resize(labels, (n, labels.shape[1])), LabelSpace(origin.label_names), Path("/nowhere"))

def write(start, stop):
    writer.write(start, features[start:stop], np.zeros(stop - start, np.uint8))

try:
    BEFORE
    writer = CacheWriter.resume(path, split, features.shape[2:], origin, False)
    write(0, 4)
    write(4, 8)
    THEN
    write(8, 10)
except StorageError as error:
    if "writer" in globals():
        writer.abandon()
    sys.exit(str(error))
"""


def run_child(path, folder, before="", then="", n=N):
    """Another process writes the first eight rows of a cache, and then goes on under other circumstances."""
    np.save(folder / "features.npy", make_features())
    np.save(folder / "labels.npy", make_split().labels)
    (folder / "origin.json").write_text(ORIGIN.to_json(), encoding="utf-8")
    script = CHILD.replace("BEFORE", before).replace("THEN", then)
    arguments = [path, n, folder / "features.npy", folder / "labels.npy", folder / "origin.json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class TestNoSpace:
    @pytest.mark.parametrize("room", [0, 100_000, 460_000])
    def test_too_little_for_the_whole_is_told_before_the_first_row(self, path, tmp_path_factory, room):
        assert cache_bytes(make_split(20_000), (F,), V) > 460_000
        limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
        child = run_child(path, tmp_path_factory.mktemp("child"), before=limit, n=20_000)
        assert child.returncode == 1 and "Traceback" not in child.stderr
        assert child.stderr.startswith(f"no space left to write {path}.partial\nFree some disk")
        assert list(path.parent.iterdir()) == []  # the room is given back

    def test_a_disk_that_fills_up_keeps_the_rows_before(self, path, tmp_path_factory):
        limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
        child = run_child(path, tmp_path_factory.mktemp("child"), then=limit)
        assert child.returncode == 1, child.stderr  # a crash of HDF5 would be -11
        assert child.stderr.startswith(f"no space left to write {path}.partial\nFree some disk")
        writer = resume(path)
        assert writer.done.tolist() == [True] * 8 + [False] * 2
        writer.write(8, make_features()[8:], good(2))
        writer.finish()
        assert (FeatureCache.open(path).features(2) == make_features()).all()


class TestRefused:
    @pytest.mark.parametrize(
        ("field", "other", "told"),
        [
            ("dataset", "coco", "data set scenes, wanted coco"),
            ("split", "val", "split train, wanted val"),
            ("fingerprint", "e" * 64, "rows or labels of the split ffffffffffff, wanted eeeeeeeeeeee"),
            ("backbone", "vgg16", "backbone resnet101, wanted vgg16"),
            ("weights_sha256", "b" * 64, "weights aaaaaaaaaaaa, wanted bbbbbbbbbbbb"),
            ("preprocessing", "299x299", "preprocessing 224x224, wanted 299x299"),
            ("compute_dtype", "bfloat16", "compute dtype float32, wanted bfloat16"),
            ("label_names", ("sky", "sea"), "labels [sea, sky, Hügel], wanted [sky, sea]"),
            ("views", 21, "views 2, wanted 21"),
        ],
    )
    def test_one_made_from_something_else_names_both_sides(self, finished, field, other, told):
        origin = FeatureCache.open(finished).origin
        with pytest.raises(CacheError) as caught:
            origin.require_fits(replace(ORIGIN, **{field: other}), finished, "labeldep extract --dataset x")
        assert str(finished) in caught.value.what and told in caught.value.what
        remedy = "Run: labeldep extract --dataset x"
        draw = "the same --val-fraction, --test-fraction and --split-seed as then"
        told_more = {
            "fingerprint": f"If the data set is as it was: {draw}. Otherwise:\n{remedy}",
            "views": f"{remedy}\n(which replaces it: the one view is among the 21, so nothing is lost)",
        }
        assert caught.value.remedy == told_more.get(field, remedy)

    def test_more_views_and_other_versions_fit(self, finished):
        origin = FeatureCache.open(finished).origin
        origin.require_fits(replace(ORIGIN, views=1, versions={"torch": "3"}), finished, "")

    def refused(self, path, match):
        with pytest.raises(CacheError, match=match) as caught:
            FeatureCache.open(path, "labeldep extract --backbone vgg16")
        assert str(path) in caught.value.what and caught.value.remedy == "Run: labeldep extract --backbone vgg16"

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
    def test_a_truncated_file(self, finished, share):
        content = finished.read_bytes()
        finished.write_bytes(content[: int(len(content) * share)])
        self.refused(finished, r"is no readable HDF5 file \(truncated or foreign\)")

    def test_a_text(self, path):
        path.write_text("path,sea,sky\n")
        self.refused(path, "is no readable HDF5 file")

    def test_a_foreign_hdf5_file(self, path):
        with h5py.File(path, "w") as file:
            file["features"] = np.zeros((3, 2))
        self.refused(path, "is an HDF5 file, but no labeldep feature cache")

    @pytest.mark.parametrize("damage", ["origin", "shape", "format"])
    def test_a_damaged_cache(self, finished, damage):
        with h5py.File(finished, "r+") as file:
            if damage == "origin":
                file["origin"][()] = b"no json"
            elif damage == "format":
                file["origin"][()] = file["origin"][()].replace(b'"format": 1', b'"format": 9')
            else:
                del file["done"]
                file["done"] = np.ones(N - 1, np.uint8)
        self.refused(finished, "no labeldep feature cache")

    def test_a_missing_file(self, path):
        self.refused(path, "there is no feature cache")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite_name_a_row(self, finished, value):
        with h5py.File(finished, "r+") as file:
            file["features"][6, 0, 3] = value
            file["features"][8, 0, 0] = value
        cache = FeatureCache.open(finished)
        with pytest.raises(CacheError, match=r"NaN or infinite features.*Bilder/ü 6\.png") as caught:
            cache.features()
        assert "--fresh" in caught.value.remedy

    def test_a_view_that_is_not_read_may_be_damaged(self, finished):
        with h5py.File(finished, "r+") as file:
            file["features"][6, 1, 3] = np.nan
        assert FeatureCache.open(finished).features(1).shape == (9, 1, F)


class Bar:
    """Counts rows, and is interrupted once there are so many."""

    def __init__(self, stop=None):
        self.count, self.stop = 0, stop

    def advance(self, n=1):
        self.count += n
        if self.stop is not None and self.count >= self.stop:
            raise KeyboardInterrupt


class Counting(nn.Module):
    """An encoder that counts the images it is shown."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.count = encoder, 0

    def forward(self, images):
        self.count += len(images)
        return self.encoder(images)


WIDTH, SIDE, GROUP = 8, 16, 3


def make_encoder():
    torch.manual_seed(0)
    return Encoder(nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eleven rows; row 4 is a text and row 7 is missing."""
    folder = tmp_path_factory.mktemp("pictures")
    split = make_split(11, root=folder)
    for row in range(11):
        if row not in (4, 7):
            draw_image(split.file(row), row, (40 + row, 30))
    split.file(4).write_text("no image")
    return split


def extract(path, split, encoder=None, bar=None, workers=0, share=0.5, named=False):
    path.parent.mkdir(exist_ok=True)
    writer = CacheWriter.resume(path, split, (WIDTH,), ORIGIN, False)
    try:
        try_unread_again([writer], Limit(share, named), len(split))
        pace = extract_split(
            split,
            encoder or make_encoder(),
            writer,
            side=SIDE,
            group=GROUP,
            workers=workers,
            limit=Limit(share, named),
            device=torch.device("cpu"),
            bar=bar or Bar(),
        )
        writer.finish()
        return pace
    except BaseException:
        writer.abandon()
        raise


def test_on_a_gpu_each_group_is_started_before_the_last_one_is_written():
    told = []

    def groups():
        for k in range(3):
            told.append(f"start {k}")
            yield k

    for group in _ahead(groups()):
        told.append(f"write {group}")
    assert told == ["start 0", "start 1", "write 0", "start 2", "write 1", "write 2"]
    assert list(_ahead(iter(()))) == []


class TestExtract:
    def test_features_are_the_encoder_s(self, pictures, path):
        bar = Bar()
        extract(path, pictures, bar=bar)
        cache = FeatureCache.open(path)
        assert bar.count == 11 and cache.usable.tolist() == [0, 1, 2, 3, 5, 6, 8, 9, 10]
        assert [(skip.path, skip.reason) for skip in cache.skipped(False)] == [
            ("Bilder/ü 4.png", "not an image"),
            ("Bilder/ü 7.png", "missing file"),
        ]
        encoder, stored = make_encoder(), cache.features(2)
        assert np.ptp(stored, axis=0).min() > 0.01
        for place, row in enumerate(cache.usable):
            (decoded,) = decode(pictures.file, [[(int(row), (0, 1))]], SIDE, 0)
            np.testing.assert_allclose(stored[place], encoder(decoded.images[0]).numpy(), rtol=2**-10, atol=1e-5)

    def test_two_folders_get_the_same_bytes(self, pictures, tmp_path):
        extract(tmp_path / "one" / "a.h5", pictures)
        time.sleep(1.1)  # HDF5 would note times in whole seconds
        extract(tmp_path / "two" / "b.h5", pictures, workers=2)
        assert (tmp_path / "one" / "a.h5").read_bytes() == (tmp_path / "two" / "b.h5").read_bytes()

    @pytest.mark.parametrize("stop", [3, 6, 9, 11])
    def test_interrupted_and_resumed_gives_the_same_bytes(self, pictures, tmp_path, stop):
        whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
        extract(whole, pictures)
        first, second = Counting(make_encoder()), Counting(make_encoder())
        with pytest.raises(KeyboardInterrupt):
            extract(path, pictures, first, Bar(stop))
        assert not path.exists()
        bar = Bar()
        extract(path, pictures, second, bar)
        assert path.read_bytes() == whole.read_bytes() and bar.count == 11
        assert first.count == stop * V and second.count == (11 - stop) * V  # nothing is computed twice

    def test_too_many_unreadable_images_stop_it_and_name_the_first(self, pictures, path):
        with pytest.raises(DatasetError, match="2 of 11 images of the train split") as caught:
            extract(path, pictures, share=0.1)
        assert "Bilder/ü 4.png (not an image), Bilder/ü 7.png (missing file)" in caught.value.what
        assert not path.exists() and path.with_name(path.name + ".partial").exists()
        extract(path, pictures, share=0.2)  # the same command with more allowed goes on
        assert len(FeatureCache.open(path).usable) == 9

    def test_missing_ones_of_a_named_data_set_do_not_count(self, pictures, path):
        extract(path, pictures, share=0.1, named=True)
        assert [skip.missing for skip in FeatureCache.open(path).skipped(True)] == [False, True]

    def test_after_it_stopped_the_unreadable_ones_are_tried_again(self, tmp_path, path):
        split = make_split(6, root=tmp_path / "pictures")
        for row in range(6):
            draw_image(split.file(row), row)
        split.file(1).write_text("no image")
        with pytest.raises(DatasetError, match="1 of 6 images"):
            extract(path, split, share=0.0)
        draw_image(split.file(1), 1)
        extract(path, split, share=0.0)
        extract(tmp_path / "whole.h5", split)
        assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()

    def test_features_too_large_for_16_bits_are_skipped_rows(self, pictures, path):
        class Large(nn.Module):
            def forward(self, images):
                features = images.float().flatten(1)[:, :WIDTH] + 1
                return features * torch.where(torch.arange(len(images)) == 0, 1e5, 1.0)[:, None]  # first of each group

        extract(path, pictures, Large(), share=1.0)
        cache = FeatureCache.open(path)
        expected = [Reason.NOT_FINITE, 0, 0, Reason.NOT_FINITE, Reason.NOT_AN_IMAGE, 0]
        expected += [Reason.NOT_FINITE, Reason.MISSING, 0, Reason.NOT_FINITE, 0]
        assert cache.reasons.tolist() == expected and np.isfinite(cache.features(2)).all()
