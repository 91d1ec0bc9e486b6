"""Features larger than memory: the order they are seen in, what is held of them, and the runs that come of it."""

from __future__ import annotations

import json
import shutil
import threading
from itertools import chain, islice
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import typer
from sandbox import Sandbox, make_table
from test_training import STEPS, Interrupting, bytes_of, make_config, make_critic

from labeldep_cli.cli.flags import read_size
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import CacheError, LabeldepError
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.coverage import Coverage, SplitFiles
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.features.store.write import Appender
from labeldep_cli.inputs import streamed
from labeldep_cli.inputs.batches import Blocks, Request, in_order
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.streamed import StreamedInputs, blocks_within, share_memory
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.progress import SilentReporter
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.draws import Order, epoch_rows, random_rows
from labeldep_cli.training.fit import Schedule, fit

CPU = torch.device("cpu")
N, V, F, L = 107, 21, 6, 4
NAMES = tuple(f"label {k}" for k in range(L))
BLOCKS = Blocks(rows=8, pools=3)  # 100 usable rows in 13 blocks, the last one of 4 rows
HOLES = (0, 17, 18, 50, 51, 52, 106)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """The features of 107 rows with all views, seven of them skipped; stored in another order than the rows."""
    random = np.random.default_rng(0)
    features = random.normal(size=(N, V, F)).astype(np.float16)
    labels = (features[:, 0, :L] > 0).astype(np.int8)
    split = Split("train", tuple(f"{k}.png" for k in range(N)), labels, LabelSpace(NAMES), Path("/nowhere"))
    contents = np.array([b"%032d" % (k + 1) for k in range(N)], CONTENT)
    kind = FeatureKind("resnet101", "a" * 64, "224x224", "float32")
    store = FeatureStore(tmp_path_factory.mktemp("features") / kind.folder_name, kind)
    store.create()
    usable = np.setdiff1d(np.arange(N), HOLES)
    for rows in np.array_split(random.permutation(usable), 3):
        for part, views in (("test", slice(0, 1)), ("crops", slice(1, V))):
            appender = Appender(store.folder, part, len(rows), (F,), kind, {})
            appender.append(contents[rows], features[rows, views], np.zeros(len(rows), np.uint8))
            appender.finish()
    return joined(store, split, contents)


def joined(store: FeatureStore, split: Split, contents: np.ndarray) -> FeatureCache:
    unusable = {bytes(contents[row]): int(Reason.BROKEN) for row in HOLES}
    files = SplitFiles(contents, np.ones(N, bool))
    return Coverage.of(store.reopened(), split, files, unusable).cache((F,))


def copied(cache: FeatureCache, folder: Path) -> FeatureCache:
    """The same features in another folder."""
    store = FeatureStore(Path(shutil.copytree(cache.path, folder / cache.path.name)), cache.store.kind)
    return joined(store, cache.split, np.array([b"%032d" % (k + 1) for k in range(N)], CONTENT))


def both(cache: FeatureCache, views: int = V) -> tuple[StreamedInputs, FeatureInputs]:
    return StreamedInputs(cache, views, False, CPU, BLOCKS), FeatureInputs.of_cache(cache, views, False, CPU)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("features")]


class TestOrder:
    order = Order(n=100, batch_size=16, seed=3, blocks=BLOCKS)
    per_epoch = 7

    def pool_of_step(self, step: int) -> set[int]:
        return set(BLOCKS.rows_of(next(self.order.pools(step)), 100).tolist())

    def test_an_epoch_has_every_row_once(self) -> None:
        epochs = []
        for epoch in range(3):
            batches = [self.order.generator_rows(epoch * self.per_epoch + k) for k in range(self.per_epoch)]
            assert [len(batch) for batch in batches] == [16] * 6 + [4]
            epochs.append(torch.cat(batches).tolist())
            assert sorted(epochs[-1]) == list(range(100))
        assert epochs[0] != epochs[1] != epochs[2]

    def test_rows_are_shuffled_within_pools_and_blocks_between_them(self) -> None:
        rows = torch.cat([self.order.generator_rows(k) for k in range(self.per_epoch)])
        pools = [BLOCKS.rows_of(pool, 100).tolist() for pool in islice(self.order.pools(0), BLOCKS.pools)]
        assert sorted(row for pool in pools for row in pool) == list(range(100))
        start = 0
        for pool in pools:
            seen = rows[start : start + len(pool)].tolist()
            assert sorted(seen) == pool != seen
            start += len(pool)
        blocks = [set(pool.tolist()) for pool in islice(self.order.pools(0), 2 * BLOCKS.pools)]
        assert blocks[: BLOCKS.pools] != blocks[BLOCKS.pools :]

    def test_each_step_depends_on_its_number_alone(self) -> None:
        walked = [self.order.generator_rows(step) for step in range(40)]
        for step in (39, 0, 20):
            assert torch.equal(Order(100, 16, 3, BLOCKS).generator_rows(step), walked[step])
        assert not torch.equal(Order(100, 16, 4, BLOCKS).generator_rows(0), walked[0])

    def test_the_critic_s_rows_are_of_the_pool_in_use(self) -> None:
        drawn: set[int] = set()
        for step in range(3 * self.per_epoch):
            pool = self.pool_of_step(step)
            assert int(self.order.generator_rows(step)[0]) in pool
            rows = self.order.critic_rows(step, "critic matched", 3 * step)
            assert len(rows) == 16 and set(rows.tolist()) <= pool
            assert torch.equal(rows, self.order.critic_rows(step, "critic matched", 3 * step))
            drawn |= set(rows.tolist())
        assert len(drawn) > 90

    def test_pools_from_a_later_step_are_those_that_remain(self) -> None:
        whole = [pool.tolist() for pool in islice(self.order.pools(0), 9)]
        for step in range(2 * self.per_epoch):
            begun = next(k for k, pool in enumerate(whole) if pool == next(self.order.pools(step)).tolist())
            assert [pool.tolist() for pool in islice(self.order.pools(step), 9 - begun)] == whole[begun:]

    def test_without_blocks_it_is_the_order_of_all_rows(self) -> None:
        order = Order(n=100, batch_size=16, seed=3)
        assert torch.equal(order.generator_rows(9), epoch_rows(100, 16, 3, 9))
        assert torch.equal(order.critic_rows(9, "critic matched", 28), random_rows(100, 16, 3, "critic matched", 28))
        assert list(order.pools(9)) == []


class TestBlocks:
    @pytest.mark.parametrize(("memory", "row"), [(300_000_000, 4096), (50_000_000, 4096), (300_000_000, 200_704)])
    def test_two_pools_fit_in_the_memory(self, memory: int, row: int) -> None:
        n = 270_000
        blocks = blocks_within(memory, n, row)
        assert blocks is not None and 2 * blocks.largest(n) * row <= memory
        assert blocks.count(n) // blocks.pools >= streamed._POOL_BLOCKS - 1  # rows of a pool are of many places
        pools = torch.arange(blocks.count(n)).tensor_split(blocks.pools)
        assert max(len(blocks.rows_of(pool, n)) for pool in pools) <= blocks.largest(n)

    def test_what_fits_is_not_streamed(self) -> None:
        assert blocks_within(1000 * 4096, 1000, 4096) is None
        assert blocks_within(1000 * 4096 - 1, 1000, 4096) is not None

    def test_too_little_is_refused_with_the_least_that_does(self) -> None:
        with pytest.raises(LabeldepError, match="too few for two pools") as told:
            blocks_within(100_000, 10_000, 4096)
        assert told.value.remedy.startswith("Give more: 1,048,576 bytes")
        assert blocks_within(1_048_576, 10_000, 4096) is not None

    @pytest.mark.parametrize(
        ("memory", "sizes", "given"),
        [
            (300, [1100, 50], [250, 50]),
            (300, [50, 1100], [50, 250]),
            (300, [1100, 900], [150, 150]),
            (300, [10, 20], [10, 20]),
            (300, [290, 20, 100], [180, 20, 100]),
            (300, [400], [300]),
        ],
    )
    def test_splits_share_the_memory(self, memory: int, sizes: list[int], given: list[int]) -> None:
        assert share_memory(memory, sizes) == given


class TestStreamedInputs:
    def test_says_of_itself_what_resident_inputs_say(self, cache: FeatureCache) -> None:
        mine, theirs = both(cache)
        for name in ("paths", "space", "skipped", "device", "n_views", "feature_dim", "batch"):
            assert getattr(mine, name) == getattr(theirs, name), name
        assert torch.equal(mine.labels, theirs.labels) and (mine.blocks, theirs.blocks) == (BLOCKS, None)

    @pytest.mark.parametrize("batch", [1, 7, 64, 1000])
    def test_in_order_equals_resident_bit_for_bit(self, cache: FeatureCache, batch: int) -> None:
        mine, theirs = both(cache)
        mine.batch = theirs.batch = batch
        for one, other in zip(in_order(mine), in_order(theirs), strict=True):
            assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y) and torch.equal(one.rows, other.rows)

    def test_batches_of_training_hold_the_rows_asked_for(self, cache: FeatureCache) -> None:
        """From a step in the middle on, with views, and with batches that straddle two pools."""
        mine, theirs = both(cache)
        order = Order(100, 16, 0, BLOCKS)
        updates = []
        for step in range(5, 30):
            drawn = [order.critic_rows(step, kind, step) for kind in ("matched", "generated")]
            for rows in (drawn, [order.generator_rows(step)]):
                updates.append([Request(some, torch.arange(len(some)) % V, len(some)) for some in rows])
        given = chain.from_iterable(list(mine.stream(updates, order.pools(5))))
        for one, other in zip(given, chain.from_iterable(theirs.stream(updates)), strict=True):
            assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y)

    def test_two_buffers_within_the_budget_are_all_it_holds(
        self, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        budget = len(cache.usable) * cache.row_bytes(V) // 2
        monkeypatch.setattr(streamed, "_POOL_ROWS", 1)
        blocks = blocks_within(budget, len(cache.usable), cache.row_bytes(V))
        assert blocks is not None
        inputs = StreamedInputs(cache, V, False, CPU, blocks)
        made: list[int] = []
        whole = StreamedInputs._buffer

        def counted(self: StreamedInputs) -> torch.Tensor:
            buffer = whole(self)
            made.append(buffer.nbytes)
            return buffer

        monkeypatch.setattr(StreamedInputs, "_buffer", counted)
        assert sum(len(batch.rows) for batch in in_order(inputs)) == 100
        assert len(made) == 2 and sum(made) <= budget

    def test_no_thread_outlives_a_stream(self, cache: FeatureCache) -> None:
        inputs, _ = both(cache)
        order = Order(100, 16, 0, BLOCKS)
        batches = inputs.stream(
            ([Request(order.generator_rows(k), torch.zeros(16).long(), 16)] for k in range(6)), order.pools(0)
        )
        next(batches)
        assert len(reading_threads()) == 1
        batches.close()
        assert reading_threads() == []
        assert len(list(in_order(inputs))) == 1 and reading_threads() == []

    def test_an_error_of_the_thread_is_told(self, cache: FeatureCache, tmp_path: Path) -> None:
        spoilt = copied(cache, tmp_path)
        number, row = (int(places[90]) for places in (spoilt.test.segment, spoilt.test.row))
        with h5py.File(spoilt.store.segments("test")[number].path, "r+") as file:
            file["features"][row, 0, 2] = np.nan
        inputs = StreamedInputs(spoilt, V, False, CPU, BLOCKS)
        inputs.batch = 16
        batches = []
        with pytest.raises(CacheError, match=f"is damaged: row {row} has other features"):
            batches.extend(in_order(inputs))
        assert len(batches) > 0, "the pools before it were served"
        assert reading_threads() == []

    def test_features_that_are_gone_are_told(self, cache: FeatureCache, tmp_path: Path) -> None:
        gone = copied(cache, tmp_path)
        inputs, _ = both(gone)
        shutil.rmtree(gone.path)
        with pytest.raises(CacheError, match="there is no segment"):
            next(in_order(inputs))

    def test_segments_that_go_meanwhile_are_read_on(self, cache: FeatureCache, tmp_path: Path) -> None:
        kept = copied(cache, tmp_path)
        inputs, resident = both(kept)
        inputs.batch = resident.batch = 16
        batches = in_order(inputs)
        read = [next(batches) for _ in range(3)]
        for segment in (*kept.store.segments("test"), *kept.store.segments("crops")):
            segment.path.unlink()
        x = torch.cat([batch.x for batch in (*read, *batches)])
        assert torch.equal(x, torch.cat([batch.x for batch in in_order(resident)]))


def train(folder: Path, cache: FeatureCache, interrupt: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    inputs, val = both(cache)
    config = make_config(batch_size=16)
    generator = Generator(torch.nn.Identity(), seeded_head("linear", F, L, 0, seed=3))
    step = AdversarialStep(generator, make_critic(config), inputs, config)
    running = step if interrupt is None else Interrupting(step, interrupt)
    schedule = Schedule(STEPS, 2)  # an evaluation every two steps: within an epoch of seven, and within pools
    fit(running, generator, inputs, val, schedule, folder, {"stage": "test", "full": False}, SilentReporter())


class TestFit:
    @pytest.mark.parametrize("at", [3, 7, 11])
    def test_interrupted_and_resumed_gives_the_same_bytes(self, cache: FeatureCache, tmp_path: Path, at: int) -> None:
        train(tmp_path / "whole", cache)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", cache, interrupt=at)
        assert reading_threads() == []
        train(tmp_path / "run", cache)
        assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("300MB", 300_000_000),
            ("8GB", 8_000_000_000),
            ("8gb", 8_000_000_000),
            ("1.5GiB", 1_610_612_736),
            ("64 KB", 64_000),
            ("4096", 4096),
            ("1TB", 10**12),
        ],
    )
    def test_read(self, text: str, size: int) -> None:
        assert read_size(text) == size

    @pytest.mark.parametrize("text", ["", "MB", "3XB", "-1GB", "0", "0.1B", "1e9", "nan", "9" * 400 + "GB", "8 G B"])
    def test_others_are_refused_by_name(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="is no size; name one like 300MB"):
            read_size(text)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("streaming"))
    make_table(sandbox.table.parent, rows=90)
    return sandbox


class TestCommands:
    """As a user runs them, over the features of a few images."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streamed, "_POOL_ROWS", 4)
        monkeypatch.setattr(streamed, "_POOL_BLOCKS", 4)

    def words(self, sandbox: Sandbox, command: str, out: str, *more: str) -> tuple[object, ...]:
        source = ("--dataset", sandbox.table, "--backbone", "scenesnet", "--batch-size", "8")
        return (command, *source, "--out", sandbox.folder / out, *more)

    def test_streamed_and_resident(self, sandbox: Sandbox) -> None:
        """256 features an image, 512 bytes: 10 kB hold 20 of them."""
        plain = sandbox.json(*self.words(sandbox, "pretrain", "plain", "--steps", "30"))
        roomy = sandbox.json(*self.words(sandbox, "pretrain", "roomy", "--steps", "30", "--max-memory", "1GB"))
        assert plain["val"] == roomy["val"] and plain["best_step"] == roomy["best_step"]
        run = sandbox.folder / "plain"
        for name in ("last.safetensors", "best.safetensors", "metrics.jsonl", "result.json"):
            assert (run / name).read_bytes() == (sandbox.folder / "roomy" / name).read_bytes()
        assert json.loads((run / "config.json").read_text())["blocks"] is None

        words = self.words(sandbox, "pretrain", "tight", "--steps", "30", "--max-memory", "10KB")
        told = sandbox.run(*words).stderr
        assert "of features are streamed" in told and "pools of blocks of" in told
        assert json.loads((sandbox.folder / "tight/config.json").read_text())["blocks"]["pools"] > 2
        losses = [(sandbox.folder / out / "metrics.jsonl").read_text() for out in ("plain", "tight")]
        assert losses[0] != losses[1], "another order"

        whole = sandbox.json("eval", run)
        assert sandbox.json("eval", run, "--max-memory", "5KB") == whole

        after = sandbox.json(
            *self.words(sandbox, "adversarial", "after", "--steps", "3", "--max-memory", "10KB"), "--from", run
        )
        assert after["steps"] == 3

    def test_the_order_is_part_of_the_run(self, sandbox: Sandbox) -> None:
        first = self.words(sandbox, "pretrain", "own", "--steps", "20", "--max-memory", "10KB")
        done = sandbox.json(*first)
        assert sandbox.json(*first) == done
        assert sandbox.json(*self.words(sandbox, "pretrain", "own", "--steps", "20")) == done  # as it was begun
        for other in ("12KB", "1GB"):
            refused = sandbox.run(*self.words(sandbox, "pretrain", "own", "--steps", "20", "--max-memory", other))
            assert refused.exit_code == 1
            assert "row order (--max-memory)" in refused.stderr and "--fresh" in refused.stderr
            assert "pools of blocks of" in refused.stderr
        assert "'all rows at once' here" in refused.stderr
        fresh = self.words(sandbox, "pretrain", "own", "--steps", "20", "--fresh")
        assert "streamed" not in sandbox.run(*fresh).stderr

    def test_a_size_that_is_none_is_a_usage_error(self, sandbox: Sandbox) -> None:
        told = sandbox.run(*self.words(sandbox, "pretrain", "own", "--max-memory", "lots"))
        assert told.exit_code == 2 and "'lots' is no size" in told.stderr

    def test_a_size_that_is_too_small(self, sandbox: Sandbox) -> None:
        told = sandbox.run(*self.words(sandbox, "pretrain", "none", "--max-memory", "1KB"))
        assert told.exit_code == 1 and "too few for two pools" in told.stderr

    def test_ready_features_stay_in_memory(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, (80, 3)).astype(np.int8)
        x = rng.normal(size=(80, 5)).astype(np.float32)
        np.savez(tmp_path / "genes.npz", X=x, Y=labels, label_names=np.array(["a", "b", "c"]))
        sandbox = Sandbox(tmp_path)
        told = sandbox.run("pretrain", "--dataset", tmp_path / "genes.npz", "--steps", 3, "--max-memory", "1KB")
        assert told.exit_code == 0 and "ready features are in memory already" in told.stderr

    def test_a_critic_alone_is_trained_beside_a_streamed_generator(self, sandbox: Sandbox) -> None:
        words = self.words(sandbox, "adversarial", "critic", "--critic", "nce", "--freeze-generator", "--steps", "20")
        assert sandbox.json(*words, "--max-memory", "10KB")["steps"] == 20
