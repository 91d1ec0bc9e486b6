"""A backbone that torchvision does not have is one row of BACKBONES: build, weights and preprocessing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sandbox import Sandbox, make_table
from torch import Tensor, nn

from labeldep_cli import load_features
from labeldep_cli.errors import BackboneError
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.views import N_VIEWS, cut
from labeldep_cli.models.backbones import BACKBONES, Backbone, WeightsFile, find_backbone
from labeldep_cli.models.loading import load_backbone
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.progress import SilentReporter

SIDE, WIDTH, MEAN, STD = 40, 6, (0.5, 0.4, 0.3), (0.25, 0.5, 0.125)


class Toy(nn.Module):
    """Features are averages of maps; `classes` puts an output layer on top."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, WIDTH, 5, stride=3)
        self.output = nn.Linear(WIDTH, classes) if classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.maps(images).relu().mean((2, 3)))


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def network() -> Toy:
    torch.manual_seed(3)
    return Toy().eval()


@pytest.fixture
def row(tmp_path: Path, network: Toy, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The one edit: a row."""
    weights = WeightsFile(saved(network, tmp_path / "toy.pth"))
    row = Backbone(
        "toy", WIDTH, framing=Framing(SIDE), mean=MEAN, std=STD, build=Toy, has_classifier=False, weights=weights
    )
    monkeypatch.setitem(BACKBONES, "toy", row)
    return row


def by_hand(network: nn.Module, path: Path) -> Tensor:
    pixels = np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    x = (torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)  # [H, W, 3]
    with torch.inference_mode():
        return network(x.permute(2, 0, 1)[None])[0]


@pytest.mark.slow
@pytest.mark.usefixtures("row")
def test_one_row_is_enough_for_the_whole_chain(tmp_path: Path, network: Toy) -> None:
    sandbox = Sandbox(tmp_path)
    make_table(tmp_path / "pets", rows=20)
    data = ("--dataset", sandbox.table, "--backbone", "toy", "--workers", 0)
    assert [file["width"] for file in sandbox.json("extract", *data)["files"]] == [WIDTH] * 3
    cache = load_features(sandbox.table, "test", backbone="toy", data_dir=tmp_path / "data")
    for name, features in zip(cache.ids, cache.features()[:, 0], strict=True):
        expected = by_hand(network, sandbox.table.parent / name)
        torch.testing.assert_close(torch.from_numpy(features).float(), expected, atol=2e-3, rtol=2e-3)
    image = sandbox.table.parent / "img" / "19.png"
    for mode in ((), ("--full", "--batch-size", 4)):
        run = sandbox.json("pretrain", *data, "--steps", 2, *mode)["run"]
        found = sandbox.json("predict", image, "--run", run, "--all")["probabilities"]
        scored = sandbox.json("export", run, "--format", "torch", "--out", tmp_path / "toy.pt2")
        assert scored["checked"]["max_difference"] < 1e-4 and f"{SIDE}x{SIDE}" in scored["input"]["preprocessing"]
        assert all(0 <= p <= 1 for p in found.values()) and len(found) == 3
    regions = sandbox.json("extract", *data, "--spatial")["files"]
    assert [file["width"] for file in regions] == [WIDTH] * 3


def test_its_identity_says_its_own_numbers(row: Backbone) -> None:
    assert find_backbone("toy") is row
    expected = "pillow bilinear 40x40 on white, mean (0.5, 0.4, 0.3), std (0.25, 0.5, 0.125)"
    assert row.preprocessing(PixelRules()) == expected
    weights = locate_weights(row, "default")
    assert weights.sha256 == sha256(weights.path) and weights.url == ""


def test_the_identities_that_stores_and_runs_depend_on_stay() -> None:
    """Written down from version 0.3.0: another string would compute every store anew."""
    usual = "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"
    for name in ("resnet101", "inception_v3", "squeezenet1_1"):
        assert find_backbone(name).preprocessing(PixelRules()) == f"pillow bilinear 224x224 on white, {usual}"
        drafted = find_backbone(name).preprocessing(PixelRules(), "draft")
        assert drafted == f"JPEG at reduced scale, pillow bilinear 224x224 on white, {usual}"
    scenesnet = find_backbone("scenesnet")
    assert scenesnet.preprocessing(PixelRules()) == f"pillow bilinear 96x96 on white, {usual}"
    assert locate_weights(scenesnet, "default").sha256 == SCENESNET
    assert locate_weights(scenesnet, "none").sha256 == RANDOM_SCENESNET
    recipe = b"random weights of squeezenet1_1, seed 0"
    assert locate_weights(find_backbone("squeezenet1_1"), "none").sha256 == hashlib.sha256(recipe).hexdigest()


def test_the_folders_of_old_stores_are_found() -> None:
    """Written down from version 0.3.0, as above."""
    for name, spatial, folder in (("resnet101", False, "88c1ade4"), ("scenesnet", True, "spatial-f527668f")):
        words = find_backbone(name).preprocessing(PixelRules())
        assert FeatureKind(name, "ab" * 32, words, "float32", spatial).folder_name == f"{name}-{folder}"


def test_the_pixels_that_stores_depend_on_stay() -> None:
    """Written down from version 0.3.0: all 21 views of an image, at the two sides of the networks of then."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for name, digest in (("scenesnet", "c566ef3c852a6532"), ("resnet101", "bcd5d53d963b93b7")):
        views = cut(Image.fromarray(pixels), tuple(range(N_VIEWS)), find_backbone(name).framing)
        assert hashlib.sha256(views.tobytes()).hexdigest().startswith(digest)


SCENESNET = "1b1d31b238ccade7f48af1d8e24fe3d5b9f0a9303ad488b00244ea75be7c74eb"
RANDOM_SCENESNET = "e2f6f13bad9e3dde8c44208c325e0d528d656fc2a2036a815bd03d4d2962b76c"


@pytest.mark.parametrize("width", [None, WIDTH])
def test_a_classifier_is_taken_off_after_its_weights_are_loaded(tmp_path: Path, width: int | None) -> None:
    network = Toy(classes=9).eval()
    weights = WeightsFile(saved(network, tmp_path / "nine.pth"))
    row = Backbone("nine", width, framing=Framing(SIDE), build=lambda: Toy(classes=9), weights=weights)
    loaded = load_backbone(row, locate_weights(row, "default"), SilentReporter())
    assert loaded.shape == (WIDTH,)
    assert torch.equal(loaded.module.maps.weight, network.maps.weight)
    assert loaded.module(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, WIDTH)


class TestDownload:
    @pytest.fixture
    def published(self, tmp_path: Path, network: Toy, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        (tmp_path / "server").mkdir()
        return saved(network, tmp_path / "server" / "toy.pth")

    @staticmethod
    def row(published: Path, digest: str | None) -> Backbone:
        weights = WeightsFile(url=published.as_uri(), sha256=digest)
        return Backbone("toy", WIDTH, framing=Framing(SIDE), build=Toy, has_classifier=False, weights=weights)

    def test_weights_are_downloaded_once_and_lie_with_torchvision_s(self, tmp_path: Path, published: Path) -> None:
        row = self.row(published, sha256(published))
        weights = locate_weights(row, "default")
        assert weights.sha256 is None and weights.path == tmp_path / "torch" / "hub" / "checkpoints" / "toy.pth"
        assert load_backbone(row, weights, SilentReporter()).weights_sha256 == sha256(published)
        digest = sha256(published)
        published.unlink()
        again = locate_weights(row, "default")
        assert again.sha256 == digest == load_backbone(row, again, SilentReporter()).weights_sha256

    def test_a_download_of_another_content_is_refused_and_not_kept(self, published: Path) -> None:
        row = self.row(published, "0" * 64)
        weights = locate_weights(row, "default")
        with pytest.raises(BackboneError, match=r"cannot download the weights of toy: invalid hash value"):
            load_backbone(row, weights, SilentReporter())
        assert not weights.path.exists()

    def test_a_file_of_another_content_is_refused(self, published: Path) -> None:
        row = self.row(published, sha256(published))
        path = locate_weights(row, "default").path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"other")
        with pytest.raises(BackboneError, match=r"toy\.pth are not the weights of toy: SHA-256 d9298a10d1b0") as caught:
            locate_weights(row, "default")
        assert caught.value.remedy == f"Remove the file, and it is downloaded again: rm {path}"


def test_a_row_without_weights_takes_a_path_or_none(tmp_path: Path, row: Backbone) -> None:
    bare = replace(row, weights=None)
    with pytest.raises(BackboneError, match="toy has no default weights") as caught:
        locate_weights(bare, "default")
    assert "--weights PATH" in caught.value.remedy
    with pytest.raises(BackboneError, match="there is no weights file") as caught:
        locate_weights(bare, "IMAGENET1K_V1")
    assert caught.value.remedy == "--weights takes none or a path."
    assert locate_weights(bare, str(tmp_path / "toy.pth")).sha256 == locate_weights(row, "default").sha256
    assert load_backbone(bare, locate_weights(bare, "none"), SilentReporter()).shape == (WIDTH,)


def test_a_file_that_is_gone_is_named(tmp_path: Path, row: Backbone) -> None:
    (tmp_path / "toy.pth").unlink()
    with pytest.raises(BackboneError, match=r"the weights of toy are not at .*toy\.pth"):
        locate_weights(row, "default")


def test_rows_that_say_too_little_are_refused() -> None:
    with pytest.raises(ValueError, match="set feature_dim"):
        Backbone("toy", build=Toy, has_classifier=False)
    with pytest.raises(ValueError, match="path or a url"):
        WeightsFile(sha256="0" * 64)
