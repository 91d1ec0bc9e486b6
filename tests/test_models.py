"""Backbones and where their weights come from; the encoder, the generator and the critic."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from conftest import draw_image
from safetensors.torch import save_file
from torch import nn

from labeldep_cli.config import AdversarialConfig, ExtractConfig, Machine, Source, Workspace
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.errors import BackboneError
from labeldep_cli.evaluation.evaluate import collect_logits
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.inputs.batches import Request
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, architecture, find_backbone
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder, fold_batch_norms, precision_on
from labeldep_cli.models.loading import load_backbone, read_state_dict
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.features import ensure_features
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.open import open_project


class Notes(SilentReporter):
    """Remembers what it was told."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def load(name, weights="none", reporter=None):
    row = find_backbone(name)
    return load_backbone(row, locate_weights(row, weights), reporter or SilentReporter())


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def squeezenet_state():
    torch.manual_seed(1)
    return torchvision.models.squeezenet1_1(weights=None).state_dict()


@pytest.fixture
def squeezenet_file(tmp_path, squeezenet_state):
    path = tmp_path / "squeezenet.pth"
    torch.save(squeezenet_state, path)
    return path


class TestBackbones:
    @pytest.mark.parametrize(
        ("name", "width"),
        [
            ("inception_v3", 2048),
            pytest.param("resnet101", 2048, marks=pytest.mark.slow),
            pytest.param("resnet152", 2048, marks=pytest.mark.slow),
            ("googlenet", 1024),
        ],
    )
    def test_feature_width(self, name, width):
        loaded = load(name)
        assert loaded.feature_dim == BACKBONES[name].feature_dim == width
        with torch.inference_mode():
            assert loaded.module(torch.zeros(1, 3, 224, 224)).shape == (1, width)

    @pytest.mark.parametrize("name", ["inception_v3", "scenesnet"])
    def test_the_bare_architecture_takes_a_loaded_one_s_state(self, name):
        assert architecture(find_backbone(name)).state_dict().keys() == load(name).module.state_dict().keys()

    @pytest.mark.slow
    def test_vgg16_gives_its_penultimate_layer(self):
        loaded = load("vgg16")
        assert loaded.feature_dim == BACKBONES["vgg16"].feature_dim == 4096
        module, image = loaded.module, torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            seen = module(image)
            maps = module.avgpool(module.features(image)).flatten(1)  # [1, 512 * 7 * 7]
            first, second = module.classifier[0], module.classifier[3]
            by_hand = torch.relu(second(torch.relu(first(maps))))
        assert seen.shape == (1, 4096) and (seen > 0).any()
        torch.testing.assert_close(seen, by_hand)
        kinds = [type(layer).__name__ for layer in module.classifier]
        assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Identity"]

    def test_scenesnet_comes_with_its_weights(self):
        row = find_backbone("scenesnet")
        weights = locate_weights(row, "default")
        loaded = load_backbone(row, weights, SilentReporter())
        assert loaded.feature_dim == 256 and loaded.weights_sha256 == weights.sha256 == digest(weights.path)
        assert weights.url == "" and row.side == 96 and "96x96" in row.preprocessing(PixelRules())
        with torch.inference_mode():
            features = loaded.module(torch.zeros(2, 3, 96, 96))
        assert features.shape == (2, 256) and features.isfinite().all()

    def test_the_paper_s_four_see_224_pixels(self):
        for name in ("vgg16", "inception_v3", "resnet101", "resnet152"):
            assert BACKBONES[name].side == 224 and "224x224" in BACKBONES[name].preprocessing(PixelRules())

    def test_random_weights_are_the_same_each_time_and_leave_the_global_draws_alone(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        first = load("squeezenet1_1")
        assert torch.equal(torch.rand(3), expected)
        second = load("squeezenet1_1")
        for mine, theirs in zip(first.module.parameters(), second.module.parameters(), strict=True):
            assert torch.equal(mine, theirs)
        assert first.weights_sha256 == second.weights_sha256 != load("scenesnet").weights_sha256

    @pytest.mark.parametrize(("typo", "near"), [("resnet10", "'resnet101'"), ("vgg_16", "'vgg16'"), ("scensnet", "'s")])
    def test_a_misspelt_name_gets_near_ones(self, typo, near):
        with pytest.raises(BackboneError) as caught:
            find_backbone(typo)
        assert caught.value.what == f"there is no backbone {typo!r}"
        assert caught.value.remedy.startswith("Did you mean") and near in caught.value.remedy


class TestWeightsFiles:
    def check(self, path, state):
        loaded = load("squeezenet1_1", str(path))
        assert loaded.feature_dim == 512 and loaded.weights_sha256 == digest(path) and not loaded.module.training
        assert torch.equal(loaded.module.features[0].weight, state["features.0.weight"])
        with torch.inference_mode():
            assert loaded.module(torch.zeros(2, 3, 64, 64)).shape == (2, 512)

    def test_a_plain_state_dict(self, squeezenet_file, squeezenet_state):
        self.check(squeezenet_file, squeezenet_state)

    def test_a_state_dict_under_its_key(self, tmp_path, squeezenet_state):
        torch.save({"state_dict": squeezenet_state, "epoch": 3}, tmp_path / "nested.pth")
        self.check(tmp_path / "nested.pth", squeezenet_state)

    def test_safetensors(self, tmp_path, squeezenet_state):
        save_file(squeezenet_state, tmp_path / "w.safetensors")
        self.check(tmp_path / "w.safetensors", squeezenet_state)

    def test_a_relative_path(self, squeezenet_file, monkeypatch):
        monkeypatch.chdir(squeezenet_file.parent)
        weights = locate_weights(find_backbone("squeezenet1_1"), "squeezenet.pth")
        assert weights.path == squeezenet_file and weights.spec == str(squeezenet_file)

    def refused(self, path, match):
        with pytest.raises(BackboneError, match=match) as caught:
            load("squeezenet1_1", str(path))
        assert str(path) in caught.value.what and caught.value.remedy
        return caught.value

    def test_a_missing_key_is_named(self, tmp_path, squeezenet_state):
        cut = {name: value for name, value in squeezenet_state.items() if name != "features.3.squeeze.bias"}
        torch.save(cut, tmp_path / "cut.pth")
        error = self.refused(tmp_path / "cut.pth", "is no state dict of squeezenet1_1")
        assert 'Missing key(s) in state_dict: "features.3.squeeze.bias"' in error.what

    def test_a_foreign_key_is_named(self, tmp_path, squeezenet_state):
        torch.save({**squeezenet_state, "extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
        assert '"extra.weight"' in self.refused(tmp_path / "more.pth", "Unexpected key").what

    def test_a_classifier_of_another_width_is_named(self, tmp_path, squeezenet_state):
        torch.save({**squeezenet_state, "classifier.1.bias": torch.zeros(7)}, tmp_path / "seven.pth")
        assert "torch.Size([7])" in self.refused(tmp_path / "seven.pth", "size mismatch for classifier.1.bias").what

    def test_another_architecture(self, tmp_path):
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
        assert "features.0.weight" in self.refused(tmp_path / "linear.pth", "Missing key").what

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
    def test_code_in_a_pickle_is_not_run(self, tmp_path, squeezenet_state, write):
        trace = tmp_path / "the-code-was-run"

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(trace),)

        write({"state_dict": squeezenet_state, "evil": Evil()}, tmp_path / "evil.pth")
        self.refused(tmp_path / "evil.pth", "a pickle can run code")
        assert not trace.exists()

    @pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
    def test_a_broken_file(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        self.refused(tmp_path / name, "no readable weights file|or is broken")

    def test_a_truncated_file(self, squeezenet_file):
        whole = squeezenet_file.read_bytes()
        squeezenet_file.write_bytes(whole[: len(whole) // 2])
        self.refused(squeezenet_file, "no readable weights file")

    @pytest.mark.parametrize("value", [[torch.zeros(1)], {"a": 1}, torch.zeros(2)])
    def test_a_file_without_a_state_dict(self, tmp_path, value):
        torch.save(value, tmp_path / "other.pth")
        self.refused(tmp_path / "other.pth", "holds no state dict")

    def test_a_missing_file(self, tmp_path):
        self.refused(tmp_path / "gone.pth", "there is no weights file")
        with pytest.raises(BackboneError, match="there is no weights file"):
            read_state_dict(tmp_path / "gone.pth")

    def test_a_misspelt_name_of_weights_is_told_the_names(self):
        with pytest.raises(BackboneError) as caught:
            locate_weights(find_backbone("resnet101"), "IMAGENET1K_V3")
        assert "IMAGENET1K_V1, IMAGENET1K_V2" in caught.value.remedy


class TestPublishedWeights:
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        """Where torch keeps the weights that it downloads: an empty folder here."""
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        place = tmp_path / "torch" / "hub" / "checkpoints" / self.url.rsplit("/", 1)[1]
        place.parent.mkdir(parents=True)
        return place

    @pytest.fixture
    def download(self, monkeypatch):
        """Lets a test say what a download does; returns a function that sets it, and a list of calls."""
        calls = []

        def install(action):
            def download(url, **options):
                calls.append((url, options))
                return action()

            monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
            return calls

        return install

    @staticmethod
    def fail(error):
        def action():
            raise error

        return action

    @pytest.mark.parametrize("spec", ["default", "IMAGENET1K_V1"])
    def test_such_as_are_there_already_are_not_downloaded(self, place, download, squeezenet_state, spec):
        calls = download(self.fail(AssertionError("a download")))
        torch.save(squeezenet_state, place)
        weights = locate_weights(find_backbone("squeezenet1_1"), spec)
        assert weights.path == place and weights.sha256 == digest(place) and weights.url == self.url
        loaded = load("squeezenet1_1", spec)
        assert loaded.weights_sha256 == digest(place) and calls == []
        assert torch.equal(loaded.module.features[0].weight, squeezenet_state["features.0.weight"])

    def test_others_are_downloaded_aloud_and_their_hash_is_told(self, place, download, squeezenet_state):
        calls = download(lambda: torch.save(squeezenet_state, place))
        assert locate_weights(find_backbone("squeezenet1_1"), "default").sha256 is None
        reporter = Notes()
        loaded = load("squeezenet1_1", "default", reporter)
        assert loaded.weights_sha256 == digest(place)
        ((url, options),) = calls
        assert url == self.url and options["check_hash"] is True and options["weights_only"] is True
        assert reporter.notes == [f"downloading the weights of squeezenet1_1 from {self.url} to {place}"]

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (URLError("Name or service not known"), "Name or service not known"),
            (TimeoutError("timed out"), "timed out"),
            (RuntimeError("invalid hash value"), "invalid hash value"),
        ],
    )
    def test_a_download_that_fails_says_how_to_go_on(self, place, download, error, told):
        download(self.fail(error))
        with pytest.raises(BackboneError) as caught:
            load("squeezenet1_1", "default")
        assert caught.value.what == f"cannot download the weights of squeezenet1_1: {told}"
        for word in (self.url, "--weights PATH", str(place), "--weights none"):
            assert word in caught.value.remedy


def small_backbone():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def some_images(n=4, side=16):
    return torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def kinds_in_training(module):
    return {type(part).__name__ for part in module.modules() if part.training}


class TestEncoder:
    def test_normalises_8_bit_images(self):
        assert IMAGENET_MEAN == (0.485, 0.456, 0.406) and IMAGENET_STD == (0.229, 0.224, 0.225)
        image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)  # 0, 0.2 and 1
        expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
        torch.testing.assert_close(Encoder(nn.Identity())(image).flatten(), torch.tensor(expected))

    def test_is_frozen_and_stays_in_eval_mode(self):
        encoder = Encoder(small_backbone())
        images, statistics = some_images(), encoder.backbone[1].running_mean.clone()
        before = encoder(images)
        generator = Generator(encoder, seeded_head("linear", 8, 3, 0, 0))
        generator.train()
        assert generator.training and kinds_in_training(encoder) == set()
        assert torch.equal(encoder(images), before)  # no dropout, no batch statistics
        assert torch.equal(encoder.backbone[1].running_mean, statistics)
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        assert not encoder(images).requires_grad

    def test_a_trainable_copy_is_deep_and_learns(self):
        encoder = Encoder(small_backbone())
        twin = encoder.trainable_copy(train_bn=False)
        assert all(parameter.requires_grad for parameter in twin.parameters())
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        mine = {parameter.data_ptr() for parameter in (*encoder.parameters(), *encoder.buffers())}
        assert mine.isdisjoint(parameter.data_ptr() for parameter in (*twin.parameters(), *twin.buffers()))
        twin.train()
        assert kinds_in_training(twin) == set()
        assert torch.equal(twin(some_images()), encoder(some_images()))

    def test_with_train_bn_batch_norms_follow_and_dropout_does_not(self):
        twin = Encoder(small_backbone()).trainable_copy(train_bn=True)
        twin.train()
        assert kinds_in_training(twin) == {"BatchNorm2d"}
        twin(some_images())
        assert twin.backbone[1].num_batches_tracked == 1
        twin.eval()
        assert kinds_in_training(twin) == set()

    @pytest.mark.parametrize("train_bn", [False, True])
    def test_training_the_copy_leaves_the_frozen_one_as_it_was(self, train_bn):
        encoder = Encoder(small_backbone())
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        generator = Generator(encoder.trainable_copy(train_bn), seeded_head("linear", 8, 3, 0, 0)).train()
        optimizer = torch.optim.Adam(generator.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            generator(some_images()).square().sum().backward()
            optimizer.step()
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, before[name]), name
        changed = {n for n, v in generator.encoder.state_dict().items() if not torch.equal(v, before[n])}
        assert {"backbone.0.weight", "backbone.1.weight", "backbone.1.bias"} <= changed
        assert ("backbone.1.running_mean" in changed) == train_bn

    def test_the_constants_are_not_stored(self):
        assert all(name.startswith("backbone.") for name in Encoder(small_backbone()).state_dict())


def with_statistics(module):
    """Batch norms as training leaves them; those of fresh networks are close to the identity."""
    torch.manual_seed(3)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
    return module.eval()


def norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


class Branching(nn.Module):
    """Two batch norms that cannot be folded (the first map goes elsewhere too) or can (the second), [B, 3, H, W] in."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.after_first, self.after_second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        maps = self.first(x)
        return (maps + self.after_second(self.second(self.after_first(maps)))).mean((2, 3))


class Deciding(Branching):
    """The same, with Python that looks at values: it cannot be traced."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class TestInferenceEncoder:
    @pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "scenesnet", "googlenet"])
    def test_it_gives_the_plain_encoder_s_features(self, name):
        plain = Encoder(with_statistics(load(name).module))
        before = {key: value.clone() for key, value in plain.state_dict().items()}
        fast = InferenceEncoder(plain)
        images = some_images(11, 64)  # a whole slice and a part of one
        assert fast.compute_dtype == "float32" and not fast(images).requires_grad
        expected = plain(images)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(fast(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
        assert {key: value.is_contiguous() for key, value in plain.state_dict().items()} == dict.fromkeys(before, True)
        assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())

    @pytest.mark.parametrize(("name", "left"), [("resnet18", 0), ("scenesnet", 0), ("googlenet", 2)])
    def test_every_batch_norm_that_runs_is_folded(self, name, left):
        network = with_statistics(load(name).module)
        assert norms(network) > 5
        fold_batch_norms(network)
        assert norms(network) == left  # those of GoogLeNet's two auxiliary classifiers, which only training runs

    def test_regions_are_folded_too(self):
        regions = with_statistics(load("resnet18").with_regions(find_backbone("resnet18")).module)
        fast = InferenceEncoder(Encoder(regions))
        assert isinstance(regions, RegionFeatures) and norms(regions) == 20
        assert norms(fast.backbone) == 0
        expected = regions(Encoder(nn.Identity())(some_images()))
        torch.testing.assert_close(fast(some_images()), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())

    def test_a_map_that_goes_elsewhere_too_keeps_its_norm(self):
        network = with_statistics(Branching())
        images = torch.rand(2, 3, 8, 8)
        expected = network(images)
        fold_batch_norms(network)
        assert isinstance(network.after_first, nn.BatchNorm2d) and isinstance(network.after_second, nn.Identity)
        torch.testing.assert_close(network(images), expected)

    def test_a_network_that_cannot_be_traced_keeps_all(self):
        network = with_statistics(Deciding())
        fold_batch_norms(network)
        assert norms(network) == 2

    def test_bfloat16_is_near_and_says_so(self):
        plain = Encoder(with_statistics(load("resnet18").module))
        fast, expected = InferenceEncoder(plain, "bfloat16"), plain(some_images())
        assert fast.compute_dtype == "bfloat16" and fast(some_images()).dtype == torch.float32
        error = (fast(some_images()) - expected).norm() / expected.norm()
        assert 1e-5 < error < 0.05
        assert next(plain.parameters()).dtype == torch.float32

    def test_auto_is_what_the_device_gains_by(self):
        assert precision_on(torch.device("cpu"), "auto") == "float32"
        assert precision_on(torch.device("cuda", 1), "auto") == "float16"
        assert precision_on(torch.device("cuda"), "bfloat16") == "bfloat16"

    def test_a_trainable_copy_has_the_plain_backbone(self):
        fast = InferenceEncoder(Encoder(small_backbone()))
        twin = fast.trainable_copy(train_bn=True)
        assert norms(twin) == 1 and all(parameter.requires_grad for parameter in twin.parameters())
        assert not any(parameter.requires_grad for parameter in fast.parameters())
        Generator(fast, seeded_head("linear", 8, 3, 0, 0)).train()
        assert kinds_in_training(fast) == set()

    def test_a_compiler_that_fails_is_told_and_done_without(self, monkeypatch):
        def compile_(*_args, **_options):
            def broken(_images):
                raise RuntimeError("no C++ compiler\nmore of it")

            return broken

        reporter, fast = Notes(), InferenceEncoder(Encoder(small_backbone()))
        expected = fast(some_images())
        monkeypatch.setattr(torch, "compile", compile_)
        fast.compile(16, reporter.note)
        assert reporter.notes == ["--compile failed, going on without it: no C++ compiler"]
        assert fast.compute_dtype == "float32" and torch.equal(fast(some_images()), expected)

    def test_a_compiled_one_sees_whole_slices_only(self, monkeypatch):
        seen = []

        def compile_(eager, **_options):
            return lambda images: seen.append(images.shape[0]) or eager(images)

        fast = InferenceEncoder(Encoder(small_backbone()))
        expected = fast(some_images(11))
        monkeypatch.setattr(torch, "compile", compile_)
        fast.compile(16, Notes().note)
        torch.testing.assert_close(fast(some_images(11)), expected)
        assert fast.compute_dtype == "float32 compiled" and seen == [8, 8, 8]

    def test_onnxruntime_gives_torch_s_features_whatever_is_encoded_with_an_image(self):
        pytest.importorskip("onnxruntime")
        fast = InferenceEncoder(Encoder(small_backbone()))
        images = some_images(11)
        expected = fast(images)
        fast.use_onnxruntime(images.shape[-1])
        found = fast(images)
        torch.testing.assert_close(found, expected)
        assert fast.compute_dtype == "float32 onnxruntime" and fast.engine == "onnxruntime"
        assert torch.equal(found[8:], fast(images[8:])), "the last slice is padded"
        assert torch.equal(found, torch.cat([fast(image[None]) for image in images]))


class TestGenerator:
    def test_a_linear_head_by_hand(self):
        head = seeded_head("linear", 2, 2, 0, seed=0)
        head.load_state_dict({"0.weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]]), "0.bias": torch.tensor([0.5, 0.0])})
        logits = Generator(nn.Identity(), head)(torch.tensor([[3.0, 4.0]]))
        assert logits.tolist() == [[11.5, -4.0]]

    def test_one_hidden_layer(self):
        head = seeded_head("linear", 6, 3, 5, seed=0)
        assert [tuple(p.shape) for p in head.parameters()] == [(5, 6), (5,), (3, 5), (3,)]
        assert head(torch.zeros(4, 6)).shape == (4, 3)

    @pytest.mark.parametrize("training", [True, False])
    def test_its_logits_are_collected_without_dropout_and_it_is_left_as_it_was(self, training):
        """Six features of 1 and weights of 1 give 6; with dropout some of them would be 0 and the others 2."""
        generator = Generator(nn.Dropout(0.5), seeded_head("linear", 6, 1, 0, seed=0)).train(training)
        nn.init.ones_(generator.head[0].weight)
        nn.init.zeros_(generator.head[0].bias)
        features, labels = np.ones((50, 1, 6), dtype=np.float32), np.zeros((50, 1), dtype=np.int8)
        names, space = [str(row) for row in range(50)], LabelSpace(("sea",))
        inputs = FeatureInputs(features, labels, names, space, (), torch.device("cpu"))
        assert collect_logits(generator, inputs).tolist() == [[6.0]] * 50
        assert generator.training is training

    def test_half_precision_features_are_computed_in_single(self):
        logits = Generator(nn.Identity(), seeded_head("linear", 6, 3, 0, seed=0))(
            torch.zeros(4, 6, dtype=torch.float16)
        )
        assert logits.dtype == torch.float32

    def test_the_seed_alone_draws_the_weights(self):
        torch.manual_seed(9)
        expected = torch.rand(2)
        torch.manual_seed(9)
        first = seeded_head("linear", 6, 3, 0, seed=4)
        assert torch.equal(torch.rand(2), expected)
        torch.manual_seed(10)
        assert torch.equal(first[0].weight, seeded_head("linear", 6, 3, 0, seed=4)[0].weight)
        assert not torch.equal(first[0].weight, seeded_head("linear", 6, 3, 0, seed=5)[0].weight)


def paper_critic(n_labels=80, feature_dim=2048, conditional=True):
    config = AdversarialConfig().resolved()
    return Discriminator(
        n_labels,
        feature_dim,
        config.critic_depth,
        config.critic_width,
        config.critic_projection,
        config.leaky_slope,
        conditional,
    )


class TestDiscriminator:
    def test_gives_one_score_an_image(self):
        critic = paper_critic()
        assert critic(torch.rand(7, 80), torch.rand(7, 2048)).shape == (7,)
        assert critic(torch.rand(1, 80), torch.rand(1, 2048)).shape == (1,)

    def test_has_the_paper_s_layers(self):
        critic = paper_critic()
        projections = (80 * 256 + 256) + (2048 * 256 + 256)
        layers = 8 * (512 * 512 + 512)  # the first takes the 256 + 256 in
        assert sum(p.numel() for p in critic.parameters()) == projections + layers + (512 + 1) == 2_647_041
        kinds = [type(layer).__name__ for layer in critic.score]
        assert kinds == ["Linear", "LeakyReLU"] * 8 + ["Linear"]

    def test_an_unconditional_one_has_no_eyes(self):
        critic = paper_critic(conditional=False)
        first = 256 * 512 + 512
        assert sum(p.numel() for p in critic.parameters()) == 80 * 256 + 256 + first + 7 * (512 * 512 + 512) + 513
        y, z = torch.rand(5, 80), torch.rand(5, 2048)
        assert torch.equal(critic(y, z), critic(y, -z)) and critic(y, z).shape == (5,)

    def test_a_conditional_one_sees_image_and_labels(self):
        torch.manual_seed(0)
        critic = paper_critic()
        y, z = torch.rand(5, 80), torch.rand(5, 2048)
        score = critic(y, z)
        assert (critic(y, -z) != score).all() and (critic(1 - y, z) != score).all()

    @pytest.mark.parametrize("conditional", [True, False])
    def test_scores_do_not_depend_on_the_batch(self, conditional):
        critic = paper_critic(6, 10, conditional).double()
        assert not any("Norm" in type(module).__name__ for module in critic.modules())
        y, z = torch.rand(5, 6).double(), torch.rand(5, 10).double()
        torch.testing.assert_close(critic(y, z)[2:3], critic(y[2:3], z[2:3]))

    @pytest.mark.parametrize(("z", "score"), [(2.0, 4.0), (-12.0, -2.0)])
    def test_by_hand(self, z, score):
        critic = Discriminator(n_labels=2, feature_dim=1, layers=1, width=1, projection=1, slope=0.2)
        for name, parameter in critic.named_parameters():
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        # y projects to 1 + 1 and z to itself: 4 as it is, or -10 with a slope of 0.2
        assert critic(torch.ones(1, 2), torch.tensor([[z]])).item() == pytest.approx(score)


@pytest.fixture(scope="module")
def scenes_project(tmp_path_factory):
    """Ten images, one of them a text, seen through scenesnet; a cache of all 21 views is made from them."""
    folder = tmp_path_factory.mktemp("golden")
    lines = ["path,split,sea,sky,boat"]
    for k in range(10):
        if k != 4:
            draw_image(folder / f"{k}.png", k, (120 + 10 * k, 90))
        lines.append(f"{k}.png,{'val' if k in (3, 8) else 'test' if k == 9 else 'train'},{k % 2},1,{k % 3 // 2}")
    (folder / "4.png").write_text("no image")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return open_project(
        Workspace(folder / "data", folder / "runs"),
        Source(dataset=str(folder), backbone="scenesnet"),
        Machine(device="cpu", workers=0, max_skipped=0.2),
        SilentReporter(),
    )


class TestOneSeam:
    def test_full_mode_logits_before_any_update_are_the_head_s_over_cached_features(self, scenes_project):
        images = ensure_inputs(scenes_project, "train", full=True)
        cached = ensure_inputs(scenes_project, "train", full=False)
        assert [*images.paths] == [*cached.paths] == [f"{k}.png" for k in (0, 1, 2, 5, 6, 7)]
        assert torch.equal(images.labels, cached.labels) and images.skipped == cached.skipped
        assert [skip.path for skip in cached.skipped] == ["4.png"]
        assert images.feature_dim == cached.feature_dim == 256

        head = seeded_head("linear", 256, 3, 0, seed=7)
        full = collect_logits(Generator(images.encoder.trainable_copy(False), head).train(), images)
        heads = collect_logits(Generator(cached.encoder, head), cached)
        # Storing a feature f in 16 bits moves it by at most f / 2^11, and a logit by that times its weight.
        features, weight = cached.features[:, 0].double().numpy(), head[0].weight.detach().double().numpy()
        bound = np.abs(features) @ np.abs(weight).T / 2**11 + 1e-5
        assert np.abs(full - heads).max() > 0 and (np.abs(full - heads) <= bound).all()
        assert np.ptp(heads, axis=0).min() > 10 * bound.max()  # the rows differ by far more: none is swapped

    def test_every_cached_view_is_the_one_that_full_mode_cuts(self, scenes_project):
        images = ensure_inputs(scenes_project, "train", full=True, views=21)
        assert images.n_views == 21
        ensure_features(scenes_project, "train", ExtractConfig(views=21), fresh=True)
        cached = ensure_inputs(scenes_project, "train", full=False, views=None)
        assert cached.n_views == 21
        request = Request(torch.arange(21) % 6, torch.arange(21), 21)
        ((seen,),), ((stored,),) = images.stream([[request]]), cached.stream([[request]])
        with torch.inference_mode():
            torch.testing.assert_close(images.encoder(seen.x), stored.x, rtol=2**-10, atol=1e-4)
        assert torch.equal(seen.y, stored.y) and torch.equal(seen.rows, stored.rows)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("alexnet", 4096),
        ("convnext_tiny", 768),
        ("densenet121", 1024),
        ("efficientnet_b0", 1280),
        ("googlenet", 1024),
        ("mnasnet0_5", 1280),
        ("mobilenet_v3_small", 1024),
        ("shufflenet_v2_x0_5", 1024),
        ("swin_t", 768),
        ("vit_b_16", 768),
    ],
)
def test_any_classifier_of_torchvision_loses_its_output_layer_alone(name, width):
    """One of each family; on the meta device, where shapes are computed and numbers are not."""
    with torch.device("meta"):
        network = architecture(find_backbone(name)).eval()
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, width)
