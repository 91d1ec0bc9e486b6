"""Regions: the last feature map, cached for heads that look at places."""

import copy

import numpy as np
import pytest
import torch
from sandbox import Sandbox, make_table

from labeldep_cli.errors import BackboneError
from labeldep_cli.models.backbones import architecture, find_backbone
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.projects.load_features import load_features


def images(side, n=2):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_critic_sees_the_mean_over_regions_and_plain_features_as_they_are():
    regions = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [1.0, -1.0]]])
    assert pooled(regions).tolist() == [[2, 4], [0.5, -0.5]]
    assert pooled(regions[0]).tolist() == [[1, 2], [3, 6]]


class TestRegionFeatures:
    def test_the_mean_over_regions_is_a_resnets_pooled_feature(self):
        row = find_backbone("resnet18")
        backbone = architecture(row).eval()
        regions = RegionFeatures(backbone, row)
        x = images(64)
        with torch.inference_mode():
            assert torch.allclose(regions(x).mean(dim=1), backbone(x), atol=1e-6)
        assert regions.shape == (49, 512)

    def test_regions_come_in_reading_order(self):
        row = find_backbone("scenesnet")
        backbone = architecture(row).eval()
        regions = RegionFeatures(backbone, row)
        x = images(96)
        with torch.inference_mode():
            maps = backbone.top(backbone.middle(backbone.stem(x)))  # [2, 128, 6, 6]
            assert torch.equal(regions(x)[:, 6 * 2 + 5], maps[:, :, 2, 5])

    def test_a_large_map_is_averaged_down(self):
        row = find_backbone("squeezenet1_1")  # 13 x 13
        assert RegionFeatures(architecture(row).eval(), row).shape == (49, 512)

    def test_a_copy_keeps_its_own_maps(self):
        row = find_backbone("scenesnet")
        regions = RegionFeatures(architecture(row).eval(), row)
        twin = copy.deepcopy(regions)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
            assert not torch.equal(twin(images(96)), regions(images(96)))
            assert not twin._maps and not regions._maps

    def test_a_transformer_has_none(self):
        row = find_backbone("vit_b_16")
        with pytest.raises(BackboneError, match="vit_b_16 has no last feature map"):
            RegionFeatures(architecture(row).eval(), row)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("regions"))
    make_table(sandbox.table.parent, rows=20)
    return sandbox


def extract(sandbox, *words):
    return sandbox.json("extract", "--dataset", sandbox.table, "--backbone", "scenesnet", *words)["files"]


def stored(sandbox, split, spatial):
    found = load_features(sandbox.table, split, backbone="scenesnet", spatial=spatial, data_dir=sandbox.folder / "data")
    return found.features()[:, 0]


class TestSpatialFeatures:
    def test_extract_keeps_regions_beside_the_pooled_features(self, sandbox):
        plain, spatial = extract(sandbox), extract(sandbox, "--spatial")
        assert [file["regions"] for file in plain] == [1, 1, 1]
        assert [(file["regions"], file["width"]) for file in spatial] == [(36, 128)] * 3
        for pooled_file, file in zip(plain, spatial, strict=True):
            assert "scenesnet-spatial-" in file["path"] and "-spatial-" not in pooled_file["path"]
            pooled, regions = (stored(sandbox, file["split"], kind) for kind in (False, True))  # 128 means, 128 maxima
            assert np.abs(regions.astype(np.float32).mean(axis=1) - pooled[:, :128]).max() < 2e-3
            assert (regions.max(axis=1) == pooled[:, 128:]).all()

    def test_a_transformer_is_refused_before_any_image_is_read(self, sandbox):
        words = ("extract", "--dataset", sandbox.table, "--backbone", "vit_b_16", "--weights", "none", "--spatial")
        result = sandbox.run(*words)
        assert result.exit_code == 1 and "vit_b_16 has no last feature map" in result.stderr
