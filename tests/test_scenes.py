"""The embedded data set `scenes` and the backbone shipped for it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from labeldep_cli.datasets.scenes.draw import DATASET_SEED, IMAGE_SIZE, LABELS, PRETRAINING_SEED, draw
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.scenesnet import ScenesNet

DRAWS = 600

ROW = find_backbone("scenesnet")
INPUT_SIDE, FEATURE_DIM, WEIGHTS_FILE = ROW.side, ROW.feature_dim, ROW.weights.path


def fingerprint(seed: int, index: int) -> str:
    image, labels = draw(seed, index)
    return hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def drawn():
    """Labels [600, L] of the data set's first images."""
    return np.stack([draw(DATASET_SEED, index)[1] for index in range(DRAWS)])


def lift(labels, first: str, second: str) -> float:
    """P(both) / (P(first) P(second)), 1 where labels are independent."""
    a, b = labels[:, LABELS.index(first)], labels[:, LABELS.index(second)]
    return float((a * b).mean() / (a.mean() * b.mean()))


def test_same_arguments_give_same_bytes_here_and_in_another_process():
    np.random.seed(1)  # global state must not matter
    here = [fingerprint(DATASET_SEED, index) for index in range(6)]
    np.random.seed(2)
    assert [fingerprint(DATASET_SEED, index) for index in (5, 4, 3, 2, 1, 0)] == here[::-1]
    program = (
        "import hashlib\nfrom labeldep_cli.datasets.scenes.draw import draw\n"
        "for index in range(6):\n    image, labels = draw(0, index)\n"
        "    print(hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[1]
    there = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert there.stdout.split() == here


def test_index_and_seed_each_change_the_image():
    assert PRETRAINING_SEED != DATASET_SEED
    prints = {fingerprint(seed, index) for seed in (DATASET_SEED, PRETRAINING_SEED) for index in range(10)}
    assert len(prints) == 20


def test_image_is_rgb_of_the_stated_size_and_not_flat():
    for index in range(24):
        image, labels = draw(DATASET_SEED, index)
        assert (image.mode, image.size) == ("RGB", IMAGE_SIZE)
        assert labels.shape == (len(LABELS),)
        assert labels.dtype == np.int8
        assert np.asarray(image).std() > 8, f"image {index} shows next to nothing"


def test_labels_are_many_sided_and_never_empty(drawn):
    assert set(np.unique(drawn)) == {0, 1}
    assert drawn.sum(1).min() >= 1
    assert 2.5 <= drawn.sum(1).mean() <= 4
    assert len({tuple(row) for row in drawn}) >= 60
    for name, share in zip(LABELS, drawn.mean(0), strict=True):
        assert 0.05 <= share <= 0.53, f"{name} is in {share:.0%} of the images"


@pytest.mark.parametrize(("first", "second"), [("fork", "knife"), ("bat", "glove"), ("keyboard", "mouse")])
def test_partners_come_together(drawn, first, second):
    assert lift(drawn, first, second) > 2


def test_fork_and_knife_depend_on_each_other_even_beside_a_plate(drawn):
    beside_plate = drawn[drawn[:, LABELS.index("plate")] == 1]
    fork, knife = beside_plate[:, LABELS.index("fork")], beside_plate[:, LABELS.index("knife")]
    assert knife[fork == 1].mean() > knife[fork == 0].mean() + 0.2


def test_strangers_do_not_come_together(drawn):
    assert lift(drawn, "boat", "keyboard") == 0


def test_weights_are_small_and_load_strictly():
    assert WEIGHTS_FILE.stat().st_size < 2_000_000
    network = ScenesNet()
    network.load_state_dict(load_file(WEIGHTS_FILE), strict=True)
    images = torch.randn(3, 3, INPUT_SIDE, INPUT_SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = network.eval()(images)
    assert features.shape == (3, FEATURE_DIM)
    assert torch.isfinite(features).all()


def test_trained_features_tell_places_apart():
    """A street's features lie nearer to other streets' than to tables': random weights do not do that by chance."""
    network = ScenesNet()
    network.load_state_dict(load_file(WEIGHTS_FILE))
    network.eval()
    wanted: dict[str, list[torch.Tensor]] = {"car": [], "plate": []}
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for index in range(150):
        image, labels = draw(DATASET_SEED, index)
        for name, features in wanted.items():
            if labels[LABELS.index(name)] and len(features) < 12:
                pixels = torch.from_numpy(np.array(image.resize((INPUT_SIDE, INPUT_SIDE), 2))).float() / 255
                with torch.inference_mode():
                    features.append(network(((pixels - mean) / deviation).permute(2, 0, 1)[None])[0])
    cars, plates = (torch.nn.functional.normalize(torch.stack(rows), dim=1) for rows in wanted.values())
    within = ((cars @ cars.T).mean() + (plates @ plates.T).mean()) / 2
    assert within - (cars @ plates.T).mean() > 0.15
