"""Full mode at less cost: D's features from the cache, a batch in parts, activations computed again."""

from __future__ import annotations

import copy
import json
import shutil
from collections import OrderedDict
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import draw_image
from sandbox import Sandbox, make_table
from test_training import F, L, make_critic, make_inputs

from benchmarks.full_step import peak_bytes
from labeldep_cli.config import AdversarialConfig, ExtractConfig, Machine, Source, Workspace
from labeldep_cli.errors import CacheError
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.inputs import images as seam
from labeldep_cli.inputs.batches import Request
from labeldep_cli.models.activation_checkpointing import checkpoint_blocks
from labeldep_cli.models.backbones import architecture, find_backbone, remove_classifier
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder, pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.features import ensure_features
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.open import open_project
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.critics.label_sets import real_and_sampled, sampled
from labeldep_cli.training.draws import uniform
from labeldep_cli.training.steps import LogisticStep

ROWS = 20  # 12 train, 4 val, 4 test
SEES = ("--backbone", "scenesnet", "--workers", 0)
QUICK = ("--full", "--steps", 6, "--batch-size", 4, "--critic-layers", 1, "--critic-steps", 1)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a cache of all 21 views, and a pretrained full-mode run."""
    sandbox = Sandbox(tmp_path_factory.mktemp("full"))
    make_table(sandbox.table.parent, ROWS)
    sandbox.json("extract", "--dataset", sandbox.table, *SEES, "--views", 21)
    sandbox.json("pretrain", "--dataset", sandbox.table, *SEES, *QUICK[:5])
    return sandbox


def make_project(sandbox: Sandbox, spatial: bool = False, workers: int = 0):
    return open_project(
        Workspace(sandbox.folder / "data", sandbox.folder / "runs"),
        Source(dataset=str(sandbox.table), backbone="scenesnet"),
        Machine(device="cpu", workers=workers),
        SilentReporter(),
        spatial=spatial,
    )


class Counted:
    """How many images are decoded, and how many passes the frozen encoder makes."""

    def __init__(self, monkeypatch, encoder):
        self.images = self.passes = 0
        read_batches = seam.read_batches

        def counting(file, batches, *rest, **more):
            def asked():
                for batch in batches:
                    self.images += len(batch)
                    yield batch

            return read_batches(file, asked(), *rest, **more)

        monkeypatch.setattr(seam, "read_batches", counting)
        encoder.register_forward_hook(self._pass)

    def _pass(self, *_):
        self.passes += 1


def make_full_step(inputs, **changes):
    config = AdversarialConfig(full=True, batch_size=4, critic_layers=1, critic_width=16, **changes).resolved()
    labels = len(inputs.space)
    head = seeded_head("linear", inputs.feature_dim, labels, 0, 0)
    critic = Discriminator(labels, inputs.feature_dim, 1, 16, 8, 0.2)
    return AdversarialStep(Generator(inputs.encoder.trainable_copy(False), head), critic, inputs, config)


class TestFeaturesFromTheCache:
    @pytest.mark.parametrize(
        ("changes", "decoded", "in_all"),
        [
            ({}, 4, 3 * 3 + 1),  # G looks at the generated batches and at its own
            ({"negatives": False}, 4, 3 * 2 + 1),
            ({"critic": "nce"}, 4, 3 * 1 + 1),  # its sets are for the same images: all are G's too
        ],
    )
    def test_only_what_g_looks_at_is_decoded(self, sandbox, monkeypatch, changes, decoded, in_all):
        for cached in (True, False):
            project = make_project(sandbox)
            inputs = ensure_inputs(project, "train", full=True, views=None)
            if cached:
                inputs.read_z_from(project.finished_cache("train", 21))
            step = make_full_step(inputs, **changes)
            with monkeypatch.context() as patch:
                counted = Counted(patch, inputs.encoder)
                step(0, inputs.stream(islice(step.requests(0), 4)))
            assert counted.images == 4 * (decoded if cached else in_all)
            assert counted.passes == (0 if cached else in_all)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_come_in_the_order_asked_for(self, sandbox, workers):
        project = make_project(sandbox, workers=workers)
        inputs = ensure_inputs(project, "train", full=True, views=None)
        cache = project.finished_cache("train", 21)
        inputs.read_z_from(cache)
        draw = np.random.default_rng(0)
        needs = [False, True, False, False, True, True, False]
        asked = [
            Request(torch.from_numpy(draw.integers(0, 12, 5)), torch.from_numpy(draw.integers(0, 21, 5)), 5, needs_x)
            for needs_x in needs
        ]
        updates = [asked[:3], asked[3:4], asked[4:]]
        came = list(chain.from_iterable(inputs.stream(updates)))
        stored = cache.features(21)
        for request, batch in zip(asked, came, strict=True):
            assert torch.equal(batch.rows, request.rows)
            assert torch.equal(batch.y, inputs.labels[request.rows].float())
            assert (batch.z.numpy() == stored[request.rows.numpy(), request.views.numpy()]).all()
            if request.needs_x:
                with torch.no_grad():
                    assert torch.allclose(inputs.encoder(batch.x), batch.z, rtol=2e-3, atol=2e-3)
            else:
                assert batch.x.shape == (0,)

    def test_batches_that_need_no_image_need_no_decoding_at_all(self, sandbox):
        project = make_project(sandbox)
        inputs = ensure_inputs(project, "train", full=True, views=None)
        inputs.read_z_from(project.finished_cache("train", 21))
        request = Request(torch.arange(3), torch.arange(3), 3, needs_x=False)
        assert [len(batch.z) for (batch,) in inputs.stream([[request], [request]])] == [3, 3]

    def test_regions_come_pooled(self, sandbox):
        project = make_project(sandbox, spatial=True)
        ensure_features(project, "train", ExtractConfig(spatial=True))
        inputs = ensure_inputs(project, "train", full=True, views=1)
        inputs.read_z_from(project.finished_cache("train"))
        ((batch,),) = inputs.stream([[Request(torch.arange(4), torch.zeros(4, dtype=torch.int64), 4)]])
        assert batch.z.shape == (4, 128)
        with torch.no_grad():
            assert torch.allclose(pooled(inputs.encoder(batch.x)), batch.z, rtol=2e-3, atol=2e-3)

    def test_rows_of_a_cache_are_those_of_the_usable_images(self, tmp_path):
        (tmp_path / "x.png").write_text("no image")
        names = ["x.png", *(f"{k}.png" for k in range(5))]
        for k in range(5):
            draw_image(tmp_path / f"{k}.png", k)
        lines = [f"{name},{'train' if k < 4 else 'val' if k < 5 else 'test'},1" for k, name in enumerate(names)]
        (tmp_path / "labels.csv").write_text("path,split,sea\n" + "\n".join(lines) + "\n")
        source = Source(dataset=str(tmp_path), backbone="scenesnet")
        machine = Machine(device="cpu", workers=0, max_skipped=0.5)
        project = open_project(Workspace(tmp_path / "data", tmp_path / "runs"), source, machine, SilentReporter())
        cache = ensure_features(project, "train", ExtractConfig()).cache
        read = cache.rows().read(np.array([2, 0, 2]), np.zeros(3, dtype=np.int64))
        assert (read == cache.features()[[2, 0, 2], 0]).all() and (read[0] != read[1]).any()

    def test_features_that_have_changed_are_refused(self, sandbox, tmp_path):
        import h5py

        cache = make_project(sandbox).finished_cache("train", 21)
        store = FeatureStore(Path(shutil.copytree(cache.path, tmp_path / cache.path.name)), cache.store.kind)
        row = int(cache.crops.row[3])
        with h5py.File(store.segments("crops")[int(cache.crops.segment[3])].path, "r+") as file:
            file["features"][row, 6, 0] = np.nan  # view 7
        reader = replace(cache, store=store).rows()
        assert np.isfinite(reader.read(np.array([3]), np.array([6]))).all()
        with pytest.raises(CacheError, match=f"is damaged: row {row} has other features"):
            reader.read(np.array([2, 3]), np.array([7, 7]))


def losses_of(run):
    lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["step"]]


def config_of(run):
    return json.loads((Path(run) / "config.json").read_text())


def files_of(run):
    names = ("last.safetensors", "best.safetensors", "metrics.jsonl", "result.json")
    return {name: (Path(run) / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def runs(sandbox):
    """The same adversarial run with D's features from the cache and without."""
    words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK)
    cached = sandbox.json(*words, "--out", sandbox.folder / "cached")["run"]
    elsewhere = ("--features-dir", sandbox.folder / "nowhere")
    result = sandbox.run(*words, *elsewhere, "--out", sandbox.folder / "plain", "--json")
    assert result.exit_code == 0, result.stderr
    assert "D's images pass the frozen CNN too; cached features avoid it: labeldep extract" in result.stderr
    assert "--split train --views 21\n" in result.stderr
    return {"cached": cached, "plain": json.loads(result.stdout)["run"]}


class TestRuns:
    def test_the_losses_are_those_of_a_run_without_a_cache_but_for_rounding(self, runs):
        assert [config_of(runs[name])["cached_z"] for name in ("cached", "plain")] == [True, False]
        cached, plain = losses_of(runs["cached"]), losses_of(runs["plain"])
        assert len(cached) == 2
        for mine, theirs in zip(cached, plain, strict=True):
            for name in ("critic", "penalty", "wasserstein", "generator", "logistic"):
                assert mine[name] == pytest.approx(theirs[name], rel=1e-2, abs=1e-3)
        assert cached != plain, "the features are rounded to 16 bits"

    @pytest.mark.parametrize("began", ["cached", "plain"])
    def test_an_interrupted_run_goes_on_as_it_began(self, sandbox, runs, began, monkeypatch, tmp_path):
        """One begun without a cache goes on without, though one that fits is there by now."""
        words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK, "--out", tmp_path / "run")
        before = () if began == "cached" else ("--features-dir", sandbox.folder / "nowhere")
        update = AdversarialStep.__call__

        def interrupted(self, step, batches):
            if step == 4:
                raise KeyboardInterrupt
            return update(self, step, batches)

        with monkeypatch.context() as patch:
            patch.setattr(AdversarialStep, "__call__", interrupted)
            assert sandbox.run(*words, *before).exit_code == 130
        result = sandbox.run(*words, "--workers", 2)  # workers fork for every evaluation, with the cache open
        assert result.exit_code == 0, result.stderr
        assert "resuming at step 3" in result.stderr and "spares it" not in result.stderr
        assert files_of(tmp_path / "run") == files_of(runs[began])

    def test_a_cache_that_is_gone_is_told(self, sandbox, runs, monkeypatch, tmp_path):
        words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK, "--out", tmp_path / "run")

        def interrupted(self, step, batches):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(AdversarialStep, "__call__", interrupted)
            assert sandbox.run(*words).exit_code == 130
        gone = ("--features-dir", tmp_path / "features")
        result = sandbox.run(*words, *gone)
        assert result.exit_code == 1
        assert f"D's features read from {tmp_path / 'features'}" in result.stderr
        assert "--split train --views 21\n" in result.stderr and "--fresh" in result.stderr
        sandbox.json("extract", "--dataset", sandbox.table, *SEES, *gone)
        result = sandbox.run(*words, *gone)  # one view is too few
        assert result.exit_code == 1 and "--split train --views 21\n" in result.stderr
        assert sandbox.json(*words, *gone, "--fresh")["steps"] == 6
        assert config_of(tmp_path / "run")["cached_z"] is False

    def test_a_finished_run_needs_its_cache_no_more(self, sandbox, runs):
        words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK, "--out", runs["cached"])
        result = sandbox.run(*words, "--features-dir", sandbox.folder / "nowhere")
        assert result.exit_code == 0 and "is finished already" in result.stderr

    def test_one_view_is_enough_for_a_run_of_one_view(self, sandbox, tmp_path):
        features = ("--features-dir", tmp_path / "features")
        sandbox.json("extract", "--dataset", sandbox.table, *SEES, *features)
        words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK, *features, "--steps", 1, "--from")
        start = next((sandbox.folder / "runs").glob("*-full-pretrain"))
        run = sandbox.json(*words, start, "--views", 1, "--out", tmp_path / "run")["run"]
        assert config_of(run)["cached_z"] is True

    def test_memory_flags_leave_a_run_s_scores_where_they_were(self, sandbox, runs, tmp_path):
        words = ("adversarial", "--dataset", sandbox.table, *SEES, *QUICK, "--out")
        checkpointed = sandbox.json(*words, tmp_path / "one", "--checkpoint-activations")["run"]
        assert files_of(checkpointed) == files_of(runs["cached"])
        parts = sandbox.json(*words, tmp_path / "two", "--accumulate", 3)["run"]
        for mine, theirs in zip(losses_of(parts), losses_of(runs["cached"]), strict=True):
            assert mine["generator"] == pytest.approx(theirs["generator"], rel=1e-2, abs=1e-3)
        # The same run with and without checkpointing; another one with other parts.
        assert sandbox.run(*words, checkpointed).exit_code == 0
        refused = sandbox.run(*words, parts)
        assert refused.exit_code == 1 and "--accumulate 3 there, 1 here" in refused.stderr

    @pytest.mark.parametrize("command", ["pretrain", "adversarial"])
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--checkpoint-activations",), "use it only with --full"),
            (("--full", "--train-bn", "--accumulate", 2), "parts of a batch"),
            (("--full", "--train-bn", "--checkpoint-activations"), "twice for every batch"),
            (("--accumulate", 0), "--accumulate"),
        ],
    )
    def test_what_makes_no_sense_is_wrong_usage(self, sandbox, command, words, told):
        result = sandbox.run(command, "--dataset", sandbox.table, *words)
        assert result.exit_code == 2 and told in " ".join(result.stderr.replace("│", " ").split())


def float64_step(kind, accumulate):
    inputs = make_inputs(10)
    config = AdversarialConfig(batch_size=10, critic_layers=2, critic_width=16, accumulate=accumulate)
    generator = Generator(torch.nn.Identity(), seeded_head("linear", F, L, 8, seed=3)).double()
    if kind == "logistic":
        step = LogisticStep(generator, inputs, config.resolved(), weight=10.0)
        optimizer = step.optimizer
    else:
        critic = Discriminator(L, F, 2, 16, 8, 0.2).double()
        critic.load_state_dict(
            make_critic(AdversarialConfig(critic_layers=2, critic_width=16, critic_projection=8)).state_dict()
        )
        step = AdversarialStep(generator, critic, inputs, config)
        optimizer = step.optimizer_g
    optimizer.step = lambda: None
    return step


def float64_batch(*samples):
    """A batch of 10 rows with noise for one soft sample an image, or for several hard ones."""
    noise = uniform((10, *samples, L), 0, "noise", 0).double()
    request = Request(torch.arange(10), torch.zeros(10, dtype=torch.int64), 10, draws=(noise,))
    ((batch,),) = make_inputs(10).stream([[request]])
    y = batch.y.double()
    y[::3, 1] = -1  # unknown labels count nowhere
    return batch._replace(x=batch.x.double(), y=y)


def sets_of(step, batch):
    """The soft samples that a step shows to the critic."""
    return sampled(step._logits(batch), batch.y, *batch.draws, step.config.inverse_temperature, step.config.sampling)


class TestAccumulate:
    @pytest.fixture(autouse=True)
    def double_precision(self):
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)

    @pytest.mark.parametrize("parts", [2, 3, 4, 10, 64])
    @pytest.mark.parametrize("kind", ["logistic", "adversarial"])
    def test_gradients_and_losses_are_those_of_one_pass(self, kind, parts):
        found = []
        for accumulate in (1, parts):
            step = float64_step(kind, accumulate)
            batch = float64_batch()
            told = step(0, iter([[batch]])) if kind == "logistic" else step._update_generator([batch])
            found.append((told, [parameter.grad for parameter in step.generator.parameters()]))
        (whole, expected), (in_parts, gradients) = found
        assert whole.keys() == in_parts.keys()
        for name, value in whole.items():
            assert in_parts[name].item() == pytest.approx(value.item(), rel=1e-12)
        for mine, theirs in zip(gradients, expected, strict=True):
            assert theirs.abs().max() > 1e-3
            assert (mine - theirs).abs().max() < 1e-12

    def test_g_never_sees_more_than_a_part(self):
        sizes = []
        step = float64_step("adversarial", 3)
        step.generator.register_forward_hook(lambda module, args, logits: sizes.append(len(args[0])))
        batch = float64_batch()
        sets_of(step, batch)
        real_and_sampled(step._logits(batch), batch.y, *float64_batch(2).draws)
        step._update_generator([batch])
        assert sizes == [4, 4, 2] * 3

    def test_sets_for_the_critic_are_those_of_one_pass(self):
        batch = float64_batch()
        whole, in_parts = (sets_of(float64_step("adversarial", k), batch) for k in (1, 3))
        assert (whole - in_parts).abs().max() < 1e-12


def vgg_like():
    layers = torchvision.models.vgg11(weights=None).features
    parts = OrderedDict(features=layers, pool=torch.nn.AdaptiveAvgPool2d(1), flatten=torch.nn.Flatten())
    return torch.nn.Sequential(parts)


def transformer():
    network = torchvision.models.VisionTransformer(64, 8, num_layers=4, num_heads=2, hidden_dim=32, mlp_dim=64)
    remove_classifier(network)
    return network


def regions():
    row = find_backbone("scenesnet")
    return RegionFeatures(architecture(row).eval(), row)


MODELS = {
    "vgg": vgg_like,
    "transformer": transformer,
    "regions": regions,
    **{
        name: lambda name=name: architecture(find_backbone(name))
        for name in ("resnet18", "squeezenet1_1", "scenesnet", "googlenet", "mobilenet_v2")
    },
}


class TestCheckpointing:
    @pytest.mark.parametrize("name", MODELS)
    def test_the_same_numbers_in_less_memory(self, name):
        torch.manual_seed(0)
        encoder = Encoder(MODELS[name]())
        images = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        found, peaks = [], []
        for checkpointed in (False, True):
            twin = copy.deepcopy(encoder.trainable_copy(False, checkpointed))
            assert twin.state_dict().keys() == encoder.state_dict().keys()

            made = []
            peaks.append(peak_bytes(lambda twin=twin, made=made: made.append(twin(images))))
            made[0].square().mean().backward()
            found.append((made[0].detach(), [parameter.grad for parameter in twin.parameters()]))
            with torch.no_grad():
                torch.testing.assert_close(twin(images), found[-1][0])
        (plain, expected), (again, gradients) = found
        assert torch.equal(plain, again)
        for mine, theirs in zip(gradients, expected, strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or torch.equal(mine, theirs)
        assert peaks[1] < 0.85 * peaks[0]

    def test_blocks_are_what_repeats(self):
        def blocks(backbone):
            checkpoint_blocks(backbone)
            return {type(part).__name__ for part in backbone.modules() if "forward" in vars(part)}

        assert blocks(architecture(find_backbone("resnet18"))) == {"BasicBlock"}
        assert blocks(architecture(find_backbone("squeezenet1_1"))) == {"Fire"}
        assert blocks(architecture(find_backbone("inception_v3"))) >= {"InceptionA", "InceptionC", "InceptionE"}
        assert blocks(transformer()) == {"EncoderBlock"}
        assert blocks(vgg_like()) == {"Sequential"}

    def test_a_copy_computes_with_its_own_weights(self):
        encoder = Encoder(architecture(find_backbone("scenesnet"))).trainable_copy(False, True)
        twin = copy.deepcopy(encoder)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        images = torch.full((1, 3, 96, 96), 100, dtype=torch.uint8)
        assert twin(images).abs().max() == 0 and encoder(images).abs().max() > 0
