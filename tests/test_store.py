"""The feature store: what it keeps, what it refuses, what it survives; and the memory of files beside it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from labeldep_cli.datasets.image_file import FileState, InMemory, Member, key_of, state_of
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import CacheError, StorageError
from labeldep_cli.features.coverage import Coverage, SplitFiles
from labeldep_cli.features.decode import Identity
from labeldep_cli.features.extract import _ahead
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.store import known_files, segment, write
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.layout import partial_of, segment_bytes
from labeldep_cli.features.store.segment import CONTENT, Segment
from labeldep_cli.features.store.store import FeatureStore, require_one_shape
from labeldep_cli.features.store.write import Appender, SegmentWriter, drop_idle_locks, rescue
from labeldep_cli.features.views import N_VIEWS

KIND = FeatureKind("resnet101", "a" * 64, "224x224", "float32")
VERSIONS = {"torch": "2.6"}
F = 5


def contents(*numbers: int) -> np.ndarray:
    """The SHA-256 of some images; of every other one it ends in zeros, which NumPy strips."""
    return np.array([(n + 1).to_bytes(2, "big") * (10 if n % 2 == 0 else 16) for n in numbers], CONTENT)


def features(*numbers: int, views: int = 1) -> np.ndarray:
    return np.stack([np.random.default_rng(n).normal(size=(views, F)) for n in numbers]).astype(np.float16)


def good(n: int) -> np.ndarray:
    return np.zeros(n, np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = FeatureStore(tmp_path / KIND.folder_name, KIND)
    made.create()
    return made


def add(store: FeatureStore, *numbers: int, part: segment.Part = "test", seed: int = 0, rows: int = 0) -> Path:
    """Append images to a store; their features depend on `seed` too."""
    views = segment.VIEWS[part]
    appender = Appender(store.folder, part, rows or len(numbers), (F,), KIND, VERSIONS)
    appender.append(contents(*numbers), features(*(n + 1000 * seed for n in numbers), views=views), good(len(numbers)))
    appender.finish()
    return sorted(store.folder.glob(f"{part}-*.h5"))[-1]


def split_of(root: Path, *numbers: int) -> Split:
    labels = np.ones((len(numbers), 1), np.int8)
    return Split("train", tuple(f"{n}.png" for n in numbers), labels, LabelSpace(("sea",)), root)


def covered(store: FeatureStore, *numbers: int, exists: bool = True) -> Coverage:
    files = SplitFiles(contents(*numbers), np.full(len(numbers), exists))
    return Coverage.of(store.reopened(), split_of(Path("/nowhere"), *numbers), files, {})


class TestSegments:
    def test_all_that_was_written_is_read_in_any_order(self, store: FeatureStore) -> None:
        add(store, *range(10))
        add(store, 20, 21)
        cache = covered(store, 21, 3, 9, 0, 20).cache((F,))
        assert (cache.features() == features(21, 3, 9, 0, 20)).all() and cache.views == 1
        assert len(cache) == 5 and cache.ids == ("21.png", "3.png", "9.png", "0.png", "20.png")
        assert sorted(path.name for path in store.folder.iterdir()) == ["kind.json", "test-000001.h5", "test-000002.h5"]

    @pytest.mark.parametrize(("gap", "block"), [(0, 1), (1, 40), (64, 2**26)])
    def test_the_runs_it_is_read_in_do_not_show(
        self, store: FeatureStore, monkeypatch: pytest.MonkeyPatch, gap: int, block: int
    ) -> None:
        monkeypatch.setattr(segment, "_GAP", gap)
        monkeypatch.setattr(segment, "_BLOCK", block)
        add(store, *range(40))
        wanted = (5, 6, 7, 30, 31, 2, 2, 39)
        assert (covered(store, *wanted).cache((F,)).features() == features(*wanted)).all()

    def test_crops_lie_beside_the_test_view(self, store: FeatureStore) -> None:
        add(store, 1, 2, 3)
        add(store, 3, 1, part="crops")
        coverage = covered(store, 1, 2, 3)
        assert coverage.missing_rows("crops").tolist() == [1] and not coverage.has_crops
        add(store, 2, part="crops")
        cache = covered(store, 1, 2, 3).cache((F,))
        assert cache.views == 21
        expected = np.concatenate([features(1, 2, 3), features(1, 2, 3, views=20)], axis=1)
        assert (cache.features(21) == expected).all()
        read = cache.rows().read(np.array([2, 0, 1, 1]), np.array([0, 20, 7, 0]))
        assert (read == expected[[2, 0, 1, 1], [0, 20, 7, 0]]).all()

    def test_of_two_rows_of_one_image_the_later_one_counts(self, store: FeatureStore) -> None:
        first = add(store, 1, 2)
        second = add(store, 2, 1, 3, seed=1)
        assert (covered(store, 1, 2, 3).cache((F,)).features() == features(1001, 1002, 1003)).all()
        store.reopened().drop_superseded()
        assert not first.exists() and second.exists()
        assert (covered(store, 1, 2, 3).cache((F,)).features() == features(1001, 1002, 1003)).all()

    def test_a_row_that_16_bits_cannot_hold_is_a_skipped_one(self, store: FeatureStore) -> None:
        appender = Appender(store.folder, "test", 2, (F,), KIND, VERSIONS)
        appender.append(contents(1, 2), features(1, 2), np.array([0, Reason.NOT_FINITE], np.uint8))
        appender.finish()
        coverage = covered(store, 1, 2)
        assert coverage.reasons.tolist() == [0, Reason.NOT_FINITE] and len(coverage.missing_rows("test")) == 0
        (skip,) = coverage.cache((F,)).skipped(named=False)
        assert (skip.path, skip.reason) == ("2.png", "features not finite in 16 bits")

    def test_room_that_was_not_needed_is_given_back(self, store: FeatureStore) -> None:
        assert add(store, 1, 2, 3, rows=10_000).stat().st_size < 2 * add(store, 4, 5, 6).stat().st_size
        assert (covered(store, 2, 5).cache((F,)).features() == features(2, 5)).all()
        appender = Appender(store.folder, "test", 10, (F,), KIND, VERSIONS)
        appender.reserve()
        appender.finish()
        assert len(list(store.folder.glob("test-*"))) == 2, "an empty one leaves nothing"

    def test_large_ones_are_cut(self, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(write, "LARGEST", 4 * segment_bytes(1, "test", (F,)))
        add(store, *range(10))
        assert [len(one) for one in store.reopened().segments("test")] == [4, 4, 2]
        assert (covered(store, *range(10)).cache((F,)).features() == features(*range(10))).all()

    def test_their_size_is_foretold(self, store: FeatureStore) -> None:
        path = add(store, *range(200))
        assert 0 <= path.stat().st_size - segment_bytes(200, "test", (F,)) < 16_384


CHILD = """
import os, resource, signal, sys
import numpy as np
from pathlib import Path
from labeldep_cli.errors import StorageError
from labeldep_cli.features.store.write import Appender
sys.path.insert(0, TESTS)
from test_store import F, KIND, VERSIONS, contents, features, good

BEFORE
try:
    appender = Appender(Path(FOLDER), "test", ROWS, (F,), KIND, VERSIONS)
    appender.reserve()
    for k in range(0, 12, 4):
        some = range(k, k + 4)
        appender.append(contents(*some), features(*some), good(4))
        THEN
except StorageError as error:
    appender.abandon()
    sys.exit(str(error))
"""


def child(store: FeatureStore, before: str = "", then: str = "", rows: int = 12) -> subprocess.CompletedProcess[str]:
    """Another process appends twelve images, four at a time."""
    script = CHILD.replace("BEFORE", before).replace("THEN", then).replace("ROWS", str(rows))
    script = script.replace("FOLDER", repr(str(store.folder))).replace("TESTS", repr(str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


class TestKilledOrFull:
    def test_a_kill_loses_at_most_the_rows_under_way(self, store: FeatureStore) -> None:
        add(store, 100, 101)
        killed = child(store, then="if k == 4: os.kill(os.getpid(), signal.SIGKILL)")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        (partial,) = store.partials("test")
        assert (covered(store, 100).cache((F,)).features() == features(100)).all(), "the old rows are readable"
        assert rescue(partial, KIND) == 8
        assert covered(store, *range(12), 100).missing_rows("test").tolist() == [8, 9, 10, 11]
        assert (covered(store, *range(8), 100).cache((F,)).features() == features(*range(8), 100)).all()
        assert not list(store.folder.glob("*.partial")) and not list(store.folder.glob(".*"))

    def test_what_another_process_writes_is_left_alone(self, store: FeatureStore) -> None:
        slow = "import time; print('k', flush=True); time.sleep(60)"
        script = CHILD.replace("BEFORE", "").replace("THEN", slow).replace("ROWS", "12")
        script = script.replace("FOLDER", repr(str(store.folder))).replace("TESTS", repr(str(Path(__file__).parent)))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        writing = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        try:
            assert writing.stdout is not None and writing.stdout.readline() == b"k\n"
            (partial,) = store.partials("test")
            assert rescue(partial, KIND) == 0 and partial.exists()
        finally:
            writing.kill()
            writing.wait()
        assert rescue(partial, KIND) == 4

    @pytest.mark.parametrize("content", [b"", b"no HDF5", None])
    def test_a_leftover_that_holds_nothing_goes(self, store: FeatureStore, content: bytes | None) -> None:
        partial = store.folder / "test-000001.h5.partial"
        if content is None:
            with h5py.File(partial, "w") as file:
                file["features"] = np.zeros((3, 1, F), np.float16)
        else:
            partial.write_bytes(content)
        assert rescue(partial, KIND) == 0 and not partial.exists()

    @pytest.mark.parametrize("room", [0, 100_000])
    def test_too_little_room_is_told_before_the_first_row(self, store: FeatureStore, room: int) -> None:
        limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
        told = child(store, before=limit, rows=20_000)
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert told.stderr.startswith("no space left to write ") and "Free some disk" in told.stderr
        assert not list(store.folder.glob("test-*"))

    def test_a_disk_that_fills_up_keeps_the_rows_before(self, store: FeatureStore) -> None:
        told = child(store, then="resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
        assert told.returncode == 1, told.stderr  # a crash of HDF5 would be -11
        assert told.stderr.startswith("no space left to write ")
        (partial,) = store.partials("test")
        assert rescue(partial, KIND) == 4

    def test_the_systems_refusal_is_no_broken_file(self, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = SegmentWriter.begin(store.folder, "test", 4, (F,), KIND, VERSIONS)
        writer.append(contents(1), features(1), good(1))
        writer.abandon()

        def refuse(partial: Path) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(write, "open_to_write", refuse)
        with pytest.raises(StorageError, match="no permission"):
            rescue(writer.partial, KIND)
        assert writer.partial.exists()

    def test_two_processes_never_claim_one_name(self, store: FeatureStore) -> None:
        writers = [SegmentWriter.begin(store.folder, "test", 4, (F,), KIND, VERSIONS) for _ in range(3)]
        assert len({writer.path for writer in writers}) == 3
        for writer in writers:
            writer.abandon()


class TestRefused:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_a_truncated_segment(self, store: FeatureStore, share: float) -> None:
        path = add(store, *range(500))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(CacheError, match=r"test-000001\.h5 is no readable HDF5 file"):
            store.reopened().segments("test")
        store.drop_broken()
        assert store.reopened().empty

    @pytest.mark.parametrize("damage", ["contents", "header", "done", "features"])
    def test_a_damaged_one(self, store: FeatureStore, damage: str) -> None:
        path = add(store, 1, 2)
        with h5py.File(path, "r+") as file:
            del file[damage]
        with pytest.raises(CacheError, match="is an HDF5 file, but no segment of features"):
            Segment.open(path, KIND, "again")

    def test_one_of_another_kind(self, store: FeatureStore) -> None:
        path = add(store, 1, 2)
        with pytest.raises(CacheError, match="holds features of resnet101, not of this store"):
            Segment.open(path, replace(KIND, weights_sha256="b" * 64), "again")

    def test_an_unfinished_one(self, store: FeatureStore) -> None:
        path = add(store, 1, 2)
        with h5py.File(path, "r+") as file:
            file["done"][1] = 0
        with pytest.raises(CacheError, match="unfinished: 1 of 2 rows"):
            Segment.open(path, KIND, "again")

    @pytest.mark.parametrize("name", ["features", "checksums", "contents", "skipped"])
    def test_a_value_that_has_changed_on_the_disk(self, store: FeatureStore, name: str) -> None:
        path = add(store, 1, 2, 3, part="crops")
        add(store, 1, 2, 3)
        with h5py.File(path, "r+") as file:
            values = file[name][:]
            values.view(np.uint8).reshape(-1)[-1] ^= 1
            file[name][:] = values
        with pytest.raises(CacheError, match=r"crops-000001\.h5 is damaged") as error:
            covered(store, 1, 2, 3).cache((F,)).features(views=N_VIEWS)
        assert error.value.remedy.startswith("Run: labeldep extract")

    def test_no_flipped_bit_gives_other_features(self, store: FeatureStore) -> None:
        """Of the whole file, HDF5's own structure too: the features are those of the unharmed one, or an error."""
        path = add(store, 1, 2, 3)
        sound, draws = path.read_bytes(), np.random.default_rng(0)
        refused = 0
        for place in draws.integers(len(sound), size=400):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << int(draws.integers(8))]) + sound[place + 1 :])
            try:
                found = covered(store, 1, 2, 3)
                if len(found.missing_rows("test")):
                    continue  # these are computed again
                assert np.array_equal(found.cache((F,)).features(), features(1, 2, 3)), place
            except CacheError as error:
                refused += 1
                assert str(path) in error.what and "labeldep extract" in error.remedy
        assert refused > 40

    def test_one_of_a_version_without_checksums_is_read(self, store: FeatureStore) -> None:
        path = add(store, 1, 2, 3)
        with h5py.File(path, "r+") as file:
            del file["checksums"], file["sums"]
        assert np.array_equal(covered(store, 3, 1).cache((F,)).features(), features(3, 1))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite(self, store: FeatureStore, value: float) -> None:
        """In a segment without checksums, which would find them first."""
        path = add(store, 1, 2, 3)
        with h5py.File(path, "r+") as file:
            file["features"][1, 0, 2] = value
            del file["checksums"]
        cache = covered(store, 3, 2, 1).cache((F,))
        for read in (cache.features, lambda: cache.rows().read(np.array([0, 1]), np.array([0, 0]))):
            with pytest.raises(CacheError, match="NaN or infinite features, first in row 1"):
                read()
        assert (covered(store, 3, 1).cache((F,)).features() == features(3, 1)).all()

    def test_features_of_another_shape(self, store: FeatureStore) -> None:
        require_one_shape(store, (F,))
        add(store, 1)
        with pytest.raises(CacheError, match=r"features of shape \[5\], but the backbone gives \[6\]"):
            require_one_shape(store.reopened(), (6,))

    def test_other_folders_are_no_stores(self, tmp_path: Path, store: FeatureStore) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "kind.json").write_text("{}")
        assert [one.kind for one in FeatureStore.all_in(tmp_path)] == [KIND]


class TestKind:
    def test_travels_as_json(self) -> None:
        for kind in (KIND, replace(KIND, spatial=True, compute_dtype="float16 compiled")):
            assert FeatureKind.from_json(kind.to_json()) == kind

    @pytest.mark.parametrize(
        "other",
        [
            {"backbone": "resnet152"},
            {"weights_sha256": "b" * 64},
            {"preprocessing": "448x448"},
            {"compute_dtype": "bfloat16"},
            {"spatial": True},
        ],
    )
    def test_whatever_changes_features_changes_the_folder(self, other: dict[str, object]) -> None:
        assert replace(KIND, **other).folder_name != KIND.folder_name


class TestKnownFiles:
    @pytest.fixture
    def known(self, tmp_path: Path) -> KnownFiles:
        return KnownFiles(tmp_path)

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        path = tmp_path / "photo.png"
        path.write_bytes(b"some bytes")
        os.utime(path, ns=(10**18, 10**18))
        return path

    def ask(self, known: KnownFiles, path: Path) -> bytes | None:
        (found,) = known.contents([state_of(path)], [key_of(path)])
        return found

    def remember(self, known: KnownFiles, path: Path, sha256: bytes = b"x" * 32) -> None:
        state = state_of(path)
        assert state is not None
        known.remember([Identity(state, sha256)])

    def test_reasons_of_older_versions_are_tried_again(self, known: KnownFiles, photo: Path) -> None:
        """They refused images that can be read now: a PNG with a long text, for example."""
        self.remember(known, photo)
        with closing(sqlite3.connect(known.path)) as database, database:
            database.execute("DROP TABLE unusable")
            database.execute("CREATE TABLE unreadable (sha256 BLOB PRIMARY KEY, reason INTEGER) WITHOUT ROWID")
            database.execute("INSERT INTO unreadable VALUES (?, ?)", (b"x" * 32, int(Reason.BROKEN)))
        assert known.reasons() == {} and self.ask(known, photo) == b"x" * 32
        known.remember([], [(b"y" * 32, int(Reason.BROKEN))])
        assert known.reasons() == {b"y" * 32: Reason.BROKEN}

    def test_a_file_is_known_until_its_size_or_time_changes(self, known: KnownFiles, photo: Path) -> None:
        assert self.ask(known, photo) is None
        self.remember(known, photo)
        assert self.ask(known, photo) == b"x" * 32
        os.utime(photo, ns=(10**18, 10**18 + 1))
        assert self.ask(known, photo) is None
        self.remember(known, photo, b"y" * 32)
        assert self.ask(known, photo) == b"y" * 32
        photo.write_bytes(b"other bytes!")
        os.utime(photo, ns=(10**18, 10**18 + 1))
        assert self.ask(known, photo) is None

    def test_one_that_is_gone_is_what_it_was(self, known: KnownFiles, photo: Path) -> None:
        self.remember(known, photo)
        photo.unlink()
        assert self.ask(known, photo) == b"x" * 32
        assert self.ask(known, photo.with_name("other.png")) is None

    def test_one_that_has_just_changed_may_change_again_unseen(self, known: KnownFiles, photo: Path) -> None:
        os.utime(photo)
        self.remember(known, photo)
        assert self.ask(known, photo) is None

    def test_images_within_tars_are_told_apart(self, tmp_path: Path) -> None:
        tar = tmp_path / "x.tar"
        tar.write_bytes(b"tar")
        first, second = (state_of(Member(tar, "a", offset, 3)) for offset in (512, 1024))
        assert first is not None and second is not None and first.key != second.key
        assert state_of(InMemory(b"x")) is None and state_of(Path("a\0b")) is None

    def test_more_files_than_a_query_takes(self, known: KnownFiles) -> None:
        states = [FileState(b"%d" % k, k, 1) for k in range(1701)]
        known.remember(Identity(state, b"%032d" % state.size) for state in states)
        found = known.contents(states, [state.key for state in states])
        assert found == [b"%032d" % k for k in range(1701)]

    def test_why_images_could_not_be_used(self, known: KnownFiles) -> None:
        assert known.reasons() == {}
        known.remember([], [(b"a" * 32, Reason.BROKEN), (b"b" * 32, Reason.TOO_LARGE)])
        known.forget_reasons([b"b" * 32])
        assert known.reasons() == {b"a" * 32: Reason.BROKEN}

    @pytest.mark.parametrize("content", [b"no database" * 100, b""])
    def test_a_broken_memory_is_begun_anew(self, known: KnownFiles, photo: Path, content: bytes) -> None:
        known.path.write_bytes(content)
        assert self.ask(known, photo) is None and known.reasons() == {}
        self.remember(known, photo)
        self.remember(known, photo)
        assert self.ask(known, photo) == b"x" * 32

    def test_where_nothing_can_be_written_nothing_is(
        self, known: KnownFiles, photo: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.remember(known, photo)

        def refuse(*_: object, **__: object) -> None:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        with monkeypatch.context() as patch:
            patch.setattr(known_files.sqlite3, "connect", refuse)
            known.remember([], [(b"a" * 32, 4)])
        assert self.ask(known, photo) == b"x" * 32 and known.reasons() == {}


class TestCoverage:
    def test_rows_are_there_lacking_missing_or_unusable(self, store: FeatureStore) -> None:
        add(store, 1, 2)
        files = SplitFiles(contents(1, 3, 4, 2, 5), np.array([True, True, True, False, False]))
        files.contents[4] = b""
        bad = {bytes(contents(4)[0]).ljust(32, b"\0"): int(Reason.BROKEN)}
        coverage = Coverage.of(store.reopened(), split_of(Path("/nowhere"), 1, 3, 4, 2, 5), files, bad)
        assert coverage.reasons.tolist() == [0, 0, Reason.BROKEN, 0, Reason.MISSING]
        assert coverage.missing_rows("test").tolist() == [1]
        assert coverage.missing_rows("crops").tolist() == [0, 1], "of a file that is gone nothing more can be computed"
        assert coverage.without_files().reasons.tolist() == [0, 0, Reason.BROKEN, Reason.MISSING, Reason.MISSING]

    def test_what_is_read_is_known(self, tmp_path: Path) -> None:
        (tmp_path / "1.png").write_bytes(b"one")
        files = SplitFiles.of(split_of(tmp_path, 1, 2), KnownFiles(tmp_path))
        assert files.unknown.tolist() == [0] and files.exists.tolist() == [True, False]
        state = state_of(tmp_path / "1.png")
        assert state is not None
        known = files.recognised(np.array([0]), [Identity(state, b"z" * 32)])
        assert known.unknown.tolist() == [] and known.contents.tolist() == [b"z" * 32, b""]


def test_on_a_gpu_each_group_is_started_before_the_last_one_is_written() -> None:
    order = []

    def groups():
        for k in range(3):
            order.append(f"start {k}")
            yield k

    for group in _ahead(groups()):
        order.append(f"write {group}")
    assert order == ["start 0", "start 1", "write 0", "start 2", "write 1", "write 2"]
    assert list(_ahead(iter(()))) == []


def test_a_partial_is_named_after_its_segment() -> None:
    assert partial_of(Path("a/test-000001.h5")) == Path("a/test-000001.h5.partial")
    assert time.time_ns() > known_files._RACY


def test_the_lock_of_a_finished_segment_goes(store: FeatureStore) -> None:
    """A kill between the segment's final name and the end of its lock leaves this; that of a writer stays."""
    idle, used = store.folder / ".test-000001.lock", store.folder / ".test-000002.lock"
    add(store, 1, 2)
    idle.touch()
    writer = SegmentWriter.begin(store.folder, "test", 2, (F,), KIND, VERSIONS)
    drop_idle_locks(store.folder, "test")
    assert (idle.exists(), used.exists()) == (False, True)
    writer.abandon()
