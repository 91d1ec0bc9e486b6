"""What depends on the device: precision, repeatable numbers, memory, and which GPU is whose.

There is no GPU where these run. Autocast and pinning are tested with the CPU's own; what a GPU would be asked is read
off replaced functions of torch.
"""

from __future__ import annotations

import pytest
import torch
from test_models import some_images, with_statistics

from labeldep_cli.config import AdversarialConfig
from labeldep_cli.evaluation.evaluate import collect_features
from labeldep_cli.inputs import Batch
from labeldep_cli.models.backbones import architecture, find_backbone
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.training import steps
from labeldep_cli.training.steps import AdversarialStep

CPU = torch.device("cpu")


def mixed(*_: object) -> torch.autocast:
    """What surrounds G in full mode on a GPU, on the CPU."""
    return torch.autocast("cpu", torch.bfloat16)


def scenesnet(spatial: bool = False) -> Encoder:
    row = find_backbone("scenesnet")
    network = with_statistics(architecture(row))
    return Encoder(RegionFeatures(network, row) if spatial else network)


# Precision


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_frozen_encoder_keeps_its_own_precision(precision, spatial) -> None:
    frozen, images = InferenceEncoder(scenesnet(spatial), precision), some_images(9, 32)
    expected = frozen(images)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert torch.equal(frozen(images), expected)
            assert torch.is_autocast_enabled("cpu")
    with mixed():
        assert not torch.equal(frozen.trainable_copy(train_bn=False)(images), expected), "G's own copy is G's business"


class SomeImages:
    """Images as inputs, all of them one batch."""

    batch, n_views, feature_dim, device, blocks = 6, 1, 256, CPU, None

    def __init__(self, encoder: InferenceEncoder) -> None:
        self.encoder = encoder
        self.labels = torch.tensor([[1, 0, 0], [0, 1, 1]] * 3, dtype=torch.int8)

    def stream(self, requests, pools=None):
        for rows, _, whole, _ in requests:
            yield Batch(some_images(6, 32)[rows], self.labels[rows].float(), rows, whole)


def test_d_sees_the_same_features_in_training_and_at_test_time(monkeypatch) -> None:
    monkeypatch.setattr(steps, "mixed_precision", mixed)
    images = SomeImages(InferenceEncoder(scenesnet()))
    config = AdversarialConfig(full=True, batch_size=6).resolved()
    generator = Generator(images.encoder.trainable_copy(False), seeded_head("linear", 256, 3, 0, 0))
    step = AdversarialStep(generator, Discriminator(3, 256, **config.critic_shape), images, config)
    (batch,) = images.stream([next(step.requests(0))])
    assert torch.equal(step._features(batch), collect_features(images)[batch.rows])
