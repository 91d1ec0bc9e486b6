"""The Python API: the critic in a loop of one's own, a run as an object, a cache as tensors; and the examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sandbox import BACKBONE, Sandbox, make_table, only
from torch import nn

import labeldep_cli
from labeldep_cli import LabelDependencyLoss, LabeldepError, api, errors
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.evaluation.rerank import score_candidates
from labeldep_cli.labelling.prediction import record
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training import losses
from labeldep_cli.training.draws import mismatched_rows, uniform
from labeldep_cli.training.label_dependency import _PURPOSE

ROOT = Path(__file__).parents[1]
B, L, F = 12, 4, 5
SMALL = {"critic_layers": 2, "critic_width": 16, "critic_projection": 8}


@pytest.fixture
def batch():
    draws = torch.Generator().manual_seed(0)
    y = (torch.rand(B, L, generator=draws) < 0.5).float()
    return torch.randn(B, L, generator=draws), torch.randn(B, F, generator=draws), y


@pytest.fixture
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def likes_the_pair(y, z):
    return 3 * y[..., 0] * y[..., 1]


def make(**settings) -> LabelDependencyLoss:
    return LabelDependencyLoss(L, F, **{**SMALL, **settings})


def test_importing_the_package_is_cheap() -> None:
    program = (
        "import sys, labeldep_cli; before = [m for m in ('torch', 'numpy', 'h5py') if m in sys.modules]; "
        "named = set(labeldep_cli.__all__) <= set(dir(labeldep_cli)); "
        "from labeldep_cli import LabelDependencyLoss, load, FeatureCache; "
        "print(before, named, LabelDependencyLoss.__name__, load.__name__, FeatureCache.__name__)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] True LabelDependencyLoss load FeatureCache"
    with pytest.raises(AttributeError, match="no attribute 'Critic'"):
        _ = labeldep_cli.Critic


def test_the_door_and_the_module_behind_it_offer_the_same_names() -> None:
    assert {*api.__all__, "__version__"} == set(labeldep_cli.__all__)
    for name in api.__all__:
        assert getattr(labeldep_cli, name) is getattr(api, name)
    assert labeldep_cli.LabeldepError is errors.LabeldepError


def test_every_default_is_the_config_s() -> None:
    assert LabelDependencyLoss(L, F).config == AdversarialConfig().resolved()
    assert LabelDependencyLoss(L, F, critic="nce").config == AdversarialConfig(critic="nce").resolved()


@pytest.mark.parametrize("negatives", [True, False])
def test_a_step_is_the_one_of_training_s_equations(batch, negatives, in_double_precision) -> None:
    """Against autograd through Eqs. 4 and 5, with Adam of its own, over the draws that the step made."""
    logits, z, y = (given.double() for given in batch)
    critic = make(critic_steps=2, negatives=negatives)
    config = critic.config
    plain = Discriminator(L, F, **config.critic_shape)
    plain.load_state_dict(critic.network.state_dict())
    adam = torch.optim.Adam(plain.parameters(), config.critic_learning_rate, (0.5, 0.9))
    told = critic.step(logits, z, y)
    draws = iter(range(1, 99))
    for _ in range(2):
        fake = losses.gumbel_sigmoid(logits, uniform((B, L), 0, _PURPOSE, next(draws)).double(), 0.9)
        weight = uniform((B, 1), 0, _PURPOSE, next(draws)).double()
        mismatched = None
        if negatives:
            others = mismatched_rows(y, torch.arange(B), 0, f"{_PURPOSE} rows", next(draws))
            assert (y[others] != y).any(dim=1).all()
            mismatched = plain(y[others], z)
        penalty = losses.gradient_penalty(plain, y, fake, z, weight)
        loss = losses.critic_loss(plain(y, z), plain(fake, z), mismatched) + 10 * penalty
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert told["critic"].item() == pytest.approx(loss.item(), rel=1e-9)
    assert told["penalty"].item() == pytest.approx(penalty.item(), rel=1e-9)
    for mine, theirs in zip(critic.network.parameters(), plain.parameters(), strict=True):
        if len(mine) > 1:  # a constant added to all scores changes nothing: its gradient is rounding
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("over_labels", ["mean", "sum"])
@pytest.mark.parametrize("reduction", ["mean", "image", "sum"])
def test_the_sum_of_both_losses_is_eq_2_times_a_constant(batch, reduction, over_labels) -> None:
    logits, z, y = batch
    critic = make(bce_reduction=reduction, alpha=7.0, label_reduction=over_labels)
    logits.requires_grad_(True)
    each = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    bce = {"mean": each.mean(), "image": each.sum(dim=1).mean(), "sum": each.sum()}[reduction]
    (mine,) = torch.autograd.grad(bce + critic.generator_loss(logits, z), logits)
    fake = losses.gumbel_sigmoid(logits, uniform((B, L), 0, _PURPOSE, 1), 0.9)
    eq_2 = losses.generator_loss(critic.network(fake, z)) + 7 * losses.logistic_loss(logits, y, over_labels)
    (theirs,) = torch.autograd.grad(eq_2, logits)
    scale = {"mean": 1 / (7 * L), "image": 1 / 7, "sum": B / 7}[reduction] * (L if over_labels == "mean" else 1)
    torch.testing.assert_close(mine, scale * theirs)


def test_a_critic_that_likes_a_pair_pulls_its_logits_together() -> None:
    """D = 3 y0 y1 and p = (0.5, 0.5): minus D falls by 3 * 0.5 * 0.25 along either logit, over alpha."""
    critic = make(sampling="none", alpha=10.0)

    class Pair(nn.Module):
        project_labels = nn.Linear(L, 1)

        def forward(self, y, z):
            return likes_the_pair(y, z)

    critic.network = Pair()
    logits = torch.zeros(1, L, requires_grad=True)
    critic.generator_loss(logits, torch.zeros(1, F)).backward()
    expected = -3 * 0.5 * 0.25 / 10
    assert logits.grad[0].tolist() == pytest.approx([expected, expected, 0, 0])
    # Of (p0, p1) = (0.6, 0.4) the four sets weigh .24 .36 .16 .24; at beta 1 the pair's .24 e^3 is the most.
    unsure = torch.tensor([[0.4054651, -0.4054651, -9.0, -9.0]])
    assert critic.rerank(unsure, torch.zeros(1, F), 1.0).tolist() == [[True, True, False, False]]
    assert critic.rerank(unsure, torch.zeros(1, F), 0.0).tolist() == [[True, False, False, False]]
    pairs = torch.tensor([[1, 1, 0, 0]])
    assert critic.tune_beta(unsure, torch.zeros(1, F), pairs) == 0.25, "0.25 * 3 is more than ln(0.6 / 0.4)"


def test_a_density_ratio_keeps_the_weight_of_theory_where_val_cannot_tell() -> None:
    """Every weight from 0.25 on finds the pair: a critic of another scale gets the smallest, a ratio 1."""
    found = {}
    for kind in ("wgan-gp", "nce"):
        critic = make(critic=kind)
        critic.network.forward = likes_the_pair
        logits = torch.tensor([[0.4054651, -0.4054651, -9.0, -9.0]])
        found[kind] = critic.tune_beta(logits, torch.zeros(1, F), torch.tensor([[1, 1, 0, 0]]))
    assert found == {"wgan-gp": 0.25, "nce": 1.0}


def test_gradients_go_into_the_logits_alone(batch) -> None:
    logits, z, y = batch
    critic = make()
    logits.requires_grad_(True)
    z.requires_grad_(True)
    told = critic.step(logits, z, y)
    assert not any(value.requires_grad for value in told.values()) and logits.grad is None
    before = [parameter.grad.clone() for parameter in critic.network.parameters()]
    critic.generator_loss(logits, z).backward()
    assert logits.grad.abs().sum() > 0 and z.grad is None
    for parameter, grad in zip(critic.network.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, grad)


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_steps_teach_it_which_labels_go_together(kind) -> None:
    """Labels 0 and 1 are always both there; the logits say of either that it may be."""
    logits, z, y = torch.zeros(64, 2), torch.zeros(64, 3), torch.ones(64, 2)
    critic = LabelDependencyLoss(2, 3, critic=kind, critic_lr=3e-3, **SMALL)
    first = critic.step(logits, z, y)["critic"]
    for _ in range(100):
        last = critic.step(logits, z, y)["critic"]
    assert last < first
    sets = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = critic.network(sets, torch.zeros(4, 3))
    assert scores[0] > scores[1:].max()
    assert critic.tune_beta(logits, z, y) > 0


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_unknown_labels_say_nothing(batch, kind) -> None:
    logits, z, y = batch
    y[:, 2] = -1
    elsewhere = logits.clone()
    elsewhere[:, 2] = 50.0
    told = [make(critic=kind).step(given, z, y) for given in (logits, elsewhere)]
    assert told[0] == told[1]
    logits.requires_grad_(True)
    make(critic=kind).generator_loss(logits, z, y).backward()
    assert (logits.grad[:, 2] == 0).all() and (logits.grad[:, 0] != 0).any()


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_it_goes_on_from_its_state(batch, kind, tmp_path) -> None:
    whole, begun, resumed = make(critic=kind), make(critic=kind), make(critic=kind, seed=0)
    for critic in (whole, begun):
        critic.step(*batch)
        critic.generator_loss(*batch[:2])
    torch.save(begun.state_dict(), tmp_path / "critic.pt")
    resumed.load_state_dict(torch.load(tmp_path / "critic.pt", weights_only=True))
    assert resumed.to("cpu").step(*batch) == whole.step(*batch)
    assert torch.equal(resumed.generator_loss(*batch[:2]), whole.generator_loss(*batch[:2]))


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_it_computes_in_full_precision_under_autocast(batch, kind) -> None:
    logits, z, y = batch
    plain, mixed = make(critic=kind), make(critic=kind)
    expected = plain.step(logits.bfloat16(), z.bfloat16(), y), plain.generator_loss(logits.bfloat16(), z.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        found = mixed.step(logits.bfloat16(), z.bfloat16(), y), mixed.generator_loss(logits.bfloat16(), z.bfloat16())
    assert found == expected
    assert found[1].dtype == torch.float32
    doubled = logits.double().requires_grad_(True)
    make(critic=kind).generator_loss(doubled, z.double()).backward()
    assert doubled.grad.dtype == torch.float64, "float64 logits pass through a float32 critic"


def test_the_critic_scores_and_decides_in_full_precision_under_autocast(batch) -> None:
    logits, z, y = batch
    critic = make(critic="nce")
    for _ in range(20):
        critic.step(logits, z, y)
    expected = [critic.network(listed, z) for listed in (y, y[:, None])]
    sets, beta = critic.rerank(logits, z, 3.0), critic.tune_beta(logits, z, y)
    candidates = score_candidates(critic.network, logits, z)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, [critic.network(listed, z) for listed in (y, y[:, None])], expected))
        assert torch.equal(critic.rerank(logits, z, 3.0), sets)
        assert critic.tune_beta(logits, z, y) == beta
        again = score_candidates(critic.network, logits, z)
    assert torch.equal(again.own.log_p, candidates.own.log_p)
    assert torch.equal(again.critic, candidates.critic)


def test_what_it_refuses(batch) -> None:
    logits, z, y = batch
    critic = make()
    weights = [parameter.clone() for parameter in critic.network.parameters()]
    with pytest.raises(LabeldepError, match="logits are not finite"):
        critic.step(logits * float("inf"), z, y)
    with pytest.raises(LabeldepError, match="features are not finite"):
        critic.step(logits, z * float("nan"), y)
    assert all(torch.equal(*pair) for pair in zip(weights, critic.network.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"logits \(12, 4\) and features \(12, 5, 1\).*\[B, 4\] and \[B, 5\]"):
        critic.generator_loss(logits, z[..., None])
    with pytest.raises(ValueError, match=r"labels \(12, 3\) for logits \(12, 4\)"):
        critic.step(logits, z, y[:, :3])
    for wrong in ({"critic": "none"}, {"bce_reduction": "batch"}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match="critic is 'wgan-gp' or 'nce'"):
            make(**wrong)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a run over images, and one over ready features."""
    sandbox = Sandbox(tmp_path_factory.mktemp("api"))
    make_table(sandbox.table.parent, rows=30)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 2, (40, 3)).astype(np.int8)
    np.savez(sandbox.folder / "x.npz", X=x, Y=y, label_names=np.array(["a", "b", "c"]))
    for words in ((sandbox.table, *BACKBONE), (sandbox.folder / "x.npz",)):
        result = sandbox.run("adversarial", "--dataset", *words, "--steps", 2, "--critic-layers", 1, "--critic", "nce")
        assert result.exit_code == 0, result.stderr
    return sandbox


@pytest.mark.parametrize("decision", ["threshold", "rerank"])
def test_load_says_what_predict_says(sandbox: Sandbox, decision) -> None:
    run = only(sandbox.folder / "runs", "pets-*-adversarial")
    photos = sorted((sandbox.folder / "pets" / "img").glob("*.png"))
    told = sandbox.run("predict", *photos, "--run", run, "--json", "--all", "--decision", decision).stdout.splitlines()
    model = labeldep_cli.load(run, decision=decision)
    assert model.labels == ("cat", "dog", "mat") and model.decision["rule"] == decision
    assert [record(one, True) for one in model.predict(photos)] == [json.loads(line) for line in told]
    opened = [Image.open(path) for path in photos]
    assert [one.labels for one in model.predict(opened)] == [one.labels for one in model.predict(map(str, photos))]
    images = torch.stack([model.prepare(path) for path in photos])
    assert images.dtype == torch.uint8 and images.shape[1:] == (3, model.side, model.side)
    p, sets = model.label(images)
    assert torch.allclose(torch.sigmoid(model(images)).double(), torch.from_numpy(p))
    assert sets.shape == (30, 3)
    decided = model.decide(images)
    assert np.array_equal(decided.probabilities, p) and np.array_equal(decided.sets, sets)
    assert decided.confidence == pytest.approx([one.confidence for one in model.predict(opened)], abs=1e-6)
    assert ((decided.confidence > 0) & (decided.confidence <= 1)).all()


def test_load_decides_as_asked(sandbox: Sandbox) -> None:
    runs = sandbox.folder / "runs"
    model = labeldep_cli.load(only(runs, "pets-*-adversarial").name, runs_dir=runs, threshold="tuned")
    assert model.decision["threshold"] == model.thresholds["tuned"]
    assert len(model.thresholds["tuned-per-label"]) == 3
    with pytest.raises(LabeldepError, match="there is no run 'pest'"):
        labeldep_cli.load("pest", runs_dir=runs)
    with pytest.raises(LabeldepError, match=r"missing\.png: missing file"):
        model.predict([sandbox.folder / "missing.png"])
    with pytest.raises(TypeError, match="call the model on tensors"):
        model.predict([torch.zeros(3, 4, 4)])


def test_load_of_a_run_on_ready_features(sandbox: Sandbox) -> None:
    model = labeldep_cli.load(only(sandbox.folder / "runs", "x-*-adversarial"), decision="rerank", device="cpu")
    rows = np.load(sandbox.folder / "x.npz")["X"][:4]
    p, sets = model.label(torch.from_numpy(rows))
    assert model.side is None and model(torch.from_numpy(rows)).shape == (4, 3)
    for one, chances, chosen in zip(model.predict(rows), p, sets, strict=True):
        assert list(one.probabilities.values()) == chances.tolist()
        assert {label for label, _ in one.labels} == {"abc"[k] for k in np.flatnonzero(chosen)}


def test_features_as_tensors(sandbox: Sandbox) -> None:
    cache = labeldep_cli.load_features(
        sandbox.table, backbone=BACKBONE[1], weights="none", data_dir=sandbox.folder / "data"
    )
    x, y = cache.tensors()
    assert len(cache) == len(cache.ids) == len(x) == len(y) == 18
    assert x.dtype == y.dtype == torch.float32 and x.shape[1:] == cache.shape
    assert cache.space.names == ("cat", "dog", "mat")
    assert np.array_equal(x.numpy(), cache.features()[:, 0]) and np.array_equal(y.numpy(), cache.labels)


def example(name: str, *words: object, text: str | None = None) -> str:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, words)]
    result = subprocess.run(command, input=text, env=settings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_ten_lines_at_most_are_added_to_the_timm_script(sandbox: Sandbox) -> None:
    lines = (ROOT / "examples" / "timm_classifier.py").read_text().splitlines()
    added = [line for line in lines if line.endswith("# +")]
    assert 0 < len(added) <= 10
    plain = "\n".join(line for line in lines if not line.endswith("# +"))
    compile(plain, "timm_classifier.py", "exec")
    assert "LabelDependencyLoss" not in plain and "critic." not in plain
    told = example(
        "timm_classifier.py",
        sandbox.table,
        *("--model", "test_resnet", "--size", 32, "--epochs", 1),
        "--workers",
        0,
        "--critic",
    )
    scores = json.loads(told.splitlines()[-1])
    assert scores["critic"] == "nce" and scores["test"].keys() == {"p > 0.5", "tuned", "rerank"}


def test_texts_become_embeddings_and_a_classifier(tmp_path: Path) -> None:
    kinds = [("a mail reader", "role::program, works-with::mail"), ("a library for mail", "role::shared-lib")]
    records = [
        f"Package: p{k}\nDescription: {kinds[k % 2][0]} number {k % 7}\n more\nTag: {kinds[k % 2][1]},\n use::x\n"
        for k in range(60)
    ]
    told = example("debtags.py", tmp_path / "tags.npz", "--labels", 4, text="\n".join([*records, "Package: q\n"]))
    assert "60 texts" in told and "4 tags, 2.50 a text" in told
    archive = np.load(tmp_path / "tags.npz")
    assert set(archive["label_names"]) == {"role::program", "works-with::mail", "role::shared-lib", "use::x"}
    told = example("text_embeddings.py", tmp_path / "tags.npz", "--epochs", 1, "--width", 8)
    assert [line.split("  ")[1] for line in told.splitlines() if "p > 0.5" in line] == ["no critic", "wgan-gp", "nce"]
    assert told.count("rerank") == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sampling": "gumble"}, "gumbel, straight-through, none"),
        ({"critic_steps": 0}, "critic_steps 0"),
        ({"lambda_gp": -1.0}, "lambda_gp -1.0"),
        ({"critic": "nce", "noise_samples": 0}, "noise_samples 0"),
        ({"alpha": float("inf")}, "alpha inf"),
        ({"inverse_temperature": float("nan")}, "inverse_temperature nan"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LabelDependencyLoss(3, 4, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_labels_that_are_none_do_not_reach_the_critic(kind: str) -> None:
    critic = LabelDependencyLoss(3, 4, critic=kind)  # type: ignore[arg-type]
    before = critic.network.score[-1].weight.detach().clone()
    y = torch.tensor([[0.0, 1.0, float("nan")], [1.0, 0.0, -1.0]])
    with pytest.raises(ValueError, match="labels must be 0, 1, or -1"):
        critic.step(torch.zeros(2, 3), torch.zeros(2, 4), y)
    with pytest.raises(ValueError, match="at least one row"):
        critic.step(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3))
    assert torch.equal(critic.network.score[-1].weight, before)
