"""How much say the critic has beside the labels: the bound, the measured share, and what is said where it is mute."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sandbox import Sandbox
from test_training import make_inputs

from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, CONFIG, METRICS
from labeldep_cli.training.adversarial_step import AdversarialStep, critic_share
from labeldep_cli.training.losses import gumbel_sigmoid, logistic_loss


class TestReach:
    @pytest.mark.parametrize(
        ("changes", "n_labels", "by_hand"),
        [
            ({"label_reduction": "sum"}, 80, 0.9 / 4 / 10),  # 0.0225
            ({"label_reduction": "sum"}, 5, 0.0225),
            ({"label_reduction": "mean"}, 80, 80 * 0.0225),  # 1.8: nothing bounds it
            ({"label_reduction": "mean"}, 5, 0.1125),
            ({"label_reduction": "sum", "alpha": 0.125}, 80, 1.8),  # the mean over 80 labels is the sum at alpha / 80
            ({"label_reduction": "sum", "sampling": "none"}, 80, 0.025),
            ({"alpha": 0.0}, 80, float("inf")),
            ({"critic": "nce"}, 80, None),
            ({"critic": "none"}, 80, None),
        ],
    )
    def test_by_hand(self, changes, n_labels, by_hand):
        reach = AdversarialConfig(**changes).critic_reach(n_labels)
        assert reach == (None if by_hand is None else pytest.approx(by_hand))

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_no_critic_of_slope_one_holds_a_label_further(self, reduction):
        """Gradient descent against D = (y_1 + y_2) / sqrt(2), whose slope is 1 everywhere; half of the rows say no.

        Each of the two labels moves by the bound over sqrt(2) at most; at p = 1/2 the bound is nearly reached.
        """
        config, n_labels = AdversarialConfig(label_reduction=reduction), 2
        y = torch.tensor([[0.0, 0.0], [1.0, 1.0]] * 2000)  # the best p without a critic is 1/2
        logits = torch.zeros(2, requires_grad=True)
        noise = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
        adam = torch.optim.SGD([logits], lr=0.2)
        for _ in range(400):
            adam.zero_grad()
            each = logits.expand(4000, 2)
            score = gumbel_sigmoid(each, noise, config.inverse_temperature).sum(dim=1).mean() / 2**0.5
            (-score + config.alpha * logistic_loss(each, y, reduction)).backward()
            adam.step()
        moved = (torch.sigmoid(logits) - 0.5).detach()
        bound = config.critic_reach(n_labels) / 2**0.5
        assert (moved > 0.5 * bound).all() and (moved < bound).all()


class TestShare:
    def test_by_hand(self):
        assert critic_share(torch.tensor(9.0), torch.tensor(81.0)).item() == pytest.approx(3 / (3 + 9))
        assert critic_share(torch.tensor(0.0), torch.tensor(4.0)).item() == 0
        assert critic_share(torch.tensor(0.0), torch.tensor(0.0)).item() == 0

    @pytest.mark.parametrize(
        ("reduction", "by_labels"),
        [("mean", 10 * 0.5 / 4 * 2), ("sum", 10 * 0.5 * 2)],  # alpha |p - y|, over 4 labels or not; norm of four such
    )
    def test_is_measured_in_a_step(self, reduction, by_labels):
        """G is unsure of every label; D = y_1: it pulls at one logit with s (1 - s) = 1/4."""

        class First(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, y, z):
                return y[:, 0] + 0 * self.weight

        inputs = make_inputs(1)
        config = AdversarialConfig(batch_size=1, sampling="none", label_reduction=reduction)
        head = seeded_head("linear", inputs.feature_dim, 4, 0, 0)
        for parameter in head.parameters():
            parameter.data.zero_()
        step = AdversarialStep(Generator(torch.nn.Identity(), head), First(), inputs, config)
        *_, (batch,) = step.inputs.stream(islice(step.requests(0), config.critic_steps + 1))
        told = step._update_generator([batch])
        assert told["critic_share"].item() == pytest.approx(0.25 / (0.25 + by_labels))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("mute"))
    sandbox.table.parent.mkdir()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    y = (x[:, :4] > 0.3).astype(np.int8)
    names = np.array(list("abcd"))
    np.savez(sandbox.folder / "four.npz", X=x, Y=y, label_names=names)
    np.savez(sandbox.folder / "two.npz", X=x, Y=y[:, :2], label_names=names[:2])
    sandbox.json("pretrain", "--dataset", sandbox.folder / "four.npz", "--steps", 20)
    return sandbox


SMALL = ("--steps", 60, "--critic-layers", 1, "--critic-width", 16, "--critic-projection", 8)


class TestWhatIsSaid:
    def test_before_training(self, sandbox: Sandbox):
        words = ("adversarial", "--dataset", sandbox.folder / "four.npz", *SMALL, "--label-reduction", "sum")
        said = sandbox.run(*words, "--out", sandbox.folder / "sum").stderr
        assert "the critic is all but mute: with --alpha 10 and --label-reduction sum over 4 labels" in said
        assert "no probability by more than 0.022" in said and "--label-reduction mean, or a smaller --alpha" in said

    def test_nothing_by_default(self, sandbox: Sandbox):
        words = ("adversarial", "--dataset", sandbox.folder / "four.npz", *SMALL, "--critic-lr", 0.01)
        said = sandbox.run(*words, "--out", sandbox.folder / "heard").stderr
        assert "critic share" in said and "critic is all but mute" not in said and "critic was mute" not in said

    @pytest.mark.parametrize("command", ["data", "pretrain"])
    def test_before_there_is_a_critic(self, sandbox: Sandbox, command):
        """Averaged over two labels, alpha = 10 leaves the critic 2 * 0.0225."""
        said = {}
        for name in ("two.npz", "four.npz"):
            words = ("--dataset", sandbox.folder / name, "--steps", 2, "--out", sandbox.folder / "p", "--fresh")
            said[name] = sandbox.run(command, *(words if command == "pretrain" else words[1:2]))
        two, four = said.values()
        assert two.exit_code == 0 and "no probability by more than 0.045" in two.stderr
        assert "in `labeldep adversarial` with its defaults the critic is all but mute" in two.stderr
        assert "critic is all but mute" not in four.stderr

    def test_what_was_measured(self, sandbox: Sandbox):
        words = ("adversarial", "--dataset", sandbox.folder / "four.npz", *SMALL, "--alpha", 1000)
        result = sandbox.run(*words, "--out", sandbox.folder / "loud")
        assert "the critic was mute: it made up" in result.stderr
        assert "a smaller --alpha or longer training gives it more influence" in result.stderr
        records = [json.loads(line) for line in (sandbox.folder / "loud" / METRICS).read_text().splitlines()]
        assert all(0 < record["critic_share"] < 0.02 for record in records[1:])


class TestTheReadingIsKept:
    def test_in_the_provenance(self, sandbox: Sandbox):
        source = sandbox.folder / "four.npz"
        for reduction in ("mean", "sum"):
            words = ("adversarial", "--dataset", source, *SMALL, "--label-reduction", reduction)
            run = sandbox.json(*words, "--out", sandbox.folder / f"kept-{reduction}")["run"]
            found = sandbox.json("eval", run)
            assert found["provenance"]["label_reduction"] == reduction
            told = {"mean": "averaged over", "sum": "summed over"}[reduction]
            assert f"loss {told} labels" in sandbox.run("eval", run).stdout.replace("\n", " ")

    def test_a_run_of_before_loads_and_says_so(self, sandbox: Sandbox):
        words = ("adversarial", "--dataset", sandbox.folder / "four.npz", *SMALL, "--label-reduction", "sum")
        run = Path(sandbox.json(*words, "--select", "mAP", "--out", sandbox.folder / "old")["run"])
        for name in ("best", "last"):
            path = run / f"{name}.safetensors"
            facts = checkpoint.load(path)[1]
            assert facts.pop("label_reduction") == "sum"
            checkpoint.save(path, load_file(path), facts)
        config = json.loads((run / CONFIG).read_text())
        del config["checksum"]
        for name in ("label_reduction", "max_gradient_norm"):
            del config["settings"][name]
        (run / CONFIG).write_text(json.dumps(config))
        assert sandbox.json("eval", run)["provenance"]["label_reduction"] == "sum"
        again = sandbox.run(*words, "--select", "mAP", "--out", run)
        assert again.exit_code == 0 and "finished already" in again.stderr
        other = sandbox.run(*words[:-1], "mean", "--select", "mAP", "--out", run)
        assert other.exit_code == 1 and "--label-reduction 'sum' there, 'mean' here" in other.stderr.replace("\n", " ")


class TestWhichEvaluationIsKept:
    def test_by_stage(self):
        assert PretrainConfig().selection == "mAP"
        assert AdversarialConfig().selection == "last"
        assert AdversarialConfig(patience=3).selection == "mAP"
        assert AdversarialConfig(select="CF1", patience=3).resolved().select == "CF1"

    def test_the_last_one_beside_a_critic(self, sandbox: Sandbox):
        source, out = sandbox.folder / "four.npz", sandbox.folder / "last"
        words = ("adversarial", "--dataset", source, *SMALL, "--lr", 0, "--out", out)
        result = sandbox.json(*words)
        assert result["best_step"] == result["steps"] == 60
        assert checkpoint.read_facts(sandbox.folder / "last" / BEST)["step"] == 60
        assert "step 60 of 60, the last" in sandbox.run(*words).stdout

    def test_waiting_needs_a_score(self, sandbox: Sandbox):
        words = ("adversarial", "--dataset", sandbox.folder / "four.npz", *SMALL, "--select", "last", "--patience", 2)
        result = sandbox.run(*words)
        assert result.exit_code == 2 and "--select mAP" in result.stderr
