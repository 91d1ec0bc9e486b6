"""The generator's heads: what all of them promise, and for each a task that independent sigmoids cannot learn."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.cnn_rnn import CnnRnnHead
from labeldep_cli.models.heads.gcn import GcnHead, label_graph
from labeldep_cli.models.heads.ml_decoder import MlDecoderHead
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.models.heads.sequence import SequenceHead
from labeldep_cli.training.losses import logistic_loss

KINDS = sorted(HEADS)
SEQUENTIAL = [kind for kind in KINDS if issubclass(HEADS[kind], SequenceHead)]
F, L, S = 6, 5, 4


def some_features(kind: str, n: int = 3, seed: int = 0) -> Tensor:
    shape = (n, S, F) if HEADS[kind].spatial else (n, F)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def some_labels(n: int = 40, n_labels: int = L, seed: int = 1) -> Tensor:
    """Label 0 is present where any of the others is; label k in about k of 7 images."""
    y = torch.rand(n, n_labels, generator=torch.Generator().manual_seed(seed)) < torch.arange(n_labels) / 7
    y[:, 0] = y[:, 1:].any(dim=1)
    return y.to(torch.int8)


def seen(head: Head, labels: Tensor) -> Head:
    head.fit_to_labels(labels)
    return head


@pytest.mark.parametrize("kind", KINDS)
class TestEveryHead:
    @pytest.mark.parametrize("hidden", [0, 12])
    def test_gives_one_finite_logit_a_label(self, kind, hidden):
        logits = seen(seeded_head(kind, F, L, hidden, seed=0), some_labels())(some_features(kind))
        assert logits.shape == (3, L) and logits.dtype == torch.float32
        assert torch.isfinite(logits).all() and logits.std() > 0

    def test_an_image_s_logits_do_not_depend_on_the_batch(self, kind):
        head, features = seeded_head(kind, F, L, 0, seed=0), some_features(kind)
        torch.testing.assert_close(head(features)[1:2], head(features[1:2]))
        assert torch.equal(head(features), head(features))

    def test_one_label_is_enough(self, kind):
        head = seen(seeded_head(kind, F, 1, 8, seed=0), some_labels(n_labels=2)[:, :1])
        assert head(some_features(kind)).shape == (3, 1)

    def test_the_seed_alone_draws_the_weights(self, kind):
        torch.manual_seed(9)
        first = seeded_head(kind, F, L, 0, seed=4).state_dict()
        torch.manual_seed(10)
        same, other = (seeded_head(kind, F, L, 0, seed=seed).state_dict() for seed in (4, 5))
        assert all(torch.equal(value, same[name]) for name, value in first.items())
        assert not all(torch.equal(value, other[name]) for name, value in first.items())

    def test_a_checkpoint_restores_what_was_seen_of_the_labels(self, kind):
        head = seen(seeded_head(kind, F, L, 0, seed=0), some_labels())
        twin = seeded_head(kind, F, L, 0, seed=1)
        twin.load_state_dict({name: value.clone() for name, value in head.state_dict().items()})
        features = some_features(kind)
        assert torch.equal(twin(features), head(features))
        if head.own_loss:
            y = some_labels(3).float()
            assert torch.equal(twin.set_loss(features, y), head.set_loss(features, y))

    def test_learns(self, kind):
        """Ten updates on one batch, by the head's own loss or the logistic one, lower it."""
        head, features, y = seeded_head(kind, F, L, 16, seed=0), some_features(kind, 8), some_labels(8).float()
        seen(head, y.to(torch.int8))
        losses = train(head, features, y, steps=10, rate=1e-2, batch=8)
        assert losses[-1] < 0.9 * losses[0]


def train(head: Head, x: Tensor, y: Tensor, steps: int, rate: float, batch: int = 64) -> list[float]:
    """Train a head as a run does; the losses."""
    optimizer, draws, losses = torch.optim.Adam(head.parameters(), lr=rate), torch.Generator().manual_seed(0), []
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=draws)
        loss = head.set_loss(x[rows], y[rows]) if head.own_loss else logistic_loss(head(x[rows]), y[rows], "sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(kind: str, x: Tensor, y: Tensor, hidden: int, steps: int, rate: float) -> Head:
    head = seen(seeded_head(kind, x.shape[-1], y.shape[1], hidden, seed=0), y.to(torch.int8))
    train(head, x, y, steps, rate)
    return head.eval()


def mean_ap(logits: Tensor, y: Tensor) -> float:
    return float(average_precision_score(y.numpy(), logits.detach().numpy(), average="macro"))


def exact_match(logits: Tensor, y: Tensor, threshold: float = 0.5) -> float:
    return ((logits.sigmoid() > threshold) == (y > 0)).all(dim=1).float().mean().item()


def best_exact_match(logits: Tensor, y: Tensor) -> float:
    """At the threshold that suits these very rows best."""
    return max(exact_match(logits, y, k / 200) for k in range(1, 200))


class TestLinearHead:
    def test_its_state_is_named_as_ever(self):
        assert list(seeded_head("linear", F, L, 0, 0).state_dict()) == ["0.weight", "0.bias"]
        assert list(seeded_head("linear", F, L, 7, 0).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def all_paths(n_labels: int) -> list[tuple[int, ...]]:
    return [path for n in range(n_labels + 1) for path in itertools.permutations(range(n_labels), n)]


def walk(head: SequenceHead, features: Tensor, path: tuple[int, ...], unknown: tuple[int, ...] = ()) -> list[Tensor]:
    """The step probabilities [L + 1] along a path of one image, computed by hand from the head's scores."""
    seen_by_all, state = head.begin(features[None])
    steps, last = [], head.n_labels
    for k in range(len(path) + 1):
        scores, state = head.step(seen_by_all, state, torch.tensor([[last]]))
        weights = scores[0, 0].exp()
        weights[list(path[:k] + unknown)] = 0
        steps.append((weights / weights.sum()).detach())
        last = path[k] if k < len(path) else head.n_labels
    return steps


def path_probability(head: SequenceHead, features: Tensor, path: tuple[int, ...], unknown: tuple[int, ...] = ()):
    taken = (*path, head.n_labels)
    return math.prod(float(p[label]) for p, label in zip(walk(head, features, path, unknown), taken, strict=True))


def sequence_head(kind: str, n_labels: int, seed: int = 0) -> SequenceHead:
    """With weights three times as large as fresh ones: its steps are far from uniform."""
    head = seeded_head(kind, F, n_labels, 16, seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)
    return head


@pytest.mark.parametrize("kind", SEQUENTIAL)
class TestSequenceHeads:
    def test_the_probabilities_of_all_paths_sum_to_one(self, kind):
        head, features = sequence_head(kind, 3), some_features(kind)
        each = [path_probability(head, features[0], path) for path in all_paths(3)]
        assert len(each) == 16 and sum(each) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("seed", range(6))
    def test_the_predicted_set_is_the_most_probable_path(self, kind, seed):
        head, features = sequence_head(kind, 3, seed), some_features(kind, 4, seed)
        p = head(features).sigmoid()
        for row, probabilities in zip(features, p, strict=True):
            best = max(all_paths(3), key=lambda path: path_probability(head, row, path))
            assert (probabilities > 0.5).nonzero().flatten().tolist() == sorted(best)
            steps = walk(head, row, best)
            for label in range(3):
                s = steps[best.index(label)][label] if label in best else max(step[label] for step in steps)
                assert float(probabilities[label]) == pytest.approx(float(s / 2 + 0.5 * (label in best)), abs=1e-4)

    def test_no_gradient_flows_through_the_set(self, kind):
        features = some_features(kind).requires_grad_()
        head = seeded_head(kind, F, L, 0, seed=0)
        assert not head(features).requires_grad
        assert head.set_loss(features, some_labels(3).float()).requires_grad

    def test_an_empty_set_costs_the_end_alone(self, kind):
        head, features = sequence_head(kind, 3), some_features(kind)
        expected = sum(-math.log(path_probability(head, row, ())) for row in features) / 3
        assert float(head.set_loss(features, torch.zeros(3, 3)).detach()) == pytest.approx(expected, rel=1e-4)

    def test_an_unknown_label_is_neither_target_nor_competitor(self, kind):
        """Known are 1 and 2, of which 2 is present: the loss is that of a head whose labels are these two."""
        head, features = sequence_head(kind, 3), some_features(kind, 1)
        y = torch.tensor([[-1.0, 0, 1]])
        expected = -math.log(path_probability(head, features[0], (2,), unknown=(0,)))
        assert float(head.set_loss(features, y).detach()) == pytest.approx(expected, rel=1e-4)
        assert expected < -math.log(path_probability(head, features[0], (2,)))

    @pytest.mark.parametrize("others", [[0.0, 1, 1, 0], [1.0, 0, 0, 0], [1.0, 1, 1, 1], [-1.0, 0, 1, -1]])
    def test_whatever_its_neighbours_an_unknown_label_s_own_weights_do_not_matter(self, kind, others):
        head, features = sequence_head(kind, L), some_features(kind, 1)
        unknown, absent = torch.tensor([[*others, -1.0]]), torch.tensor([[*others, 0.0]])
        before = [head.set_loss(features, y) for y in (unknown, absent)]
        with torch.no_grad():
            for parameter in head.parameters():
                if parameter.shape[0] == L + 1:  # a row a label and the end
                    parameter[L - 1] *= 2
        after = [head.set_loss(features, y) for y in (unknown, absent)]
        assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])


class TestCnnRnnHead:
    def test_labels_are_ranked_from_frequent_to_rare(self):
        """Counts 1, 3, 3, 0; an unknown label is not present."""
        labels = torch.tensor([[0, 1, 1, -1], [1, 1, 1, -1], [-1, 1, 1, 0]], dtype=torch.int8)
        assert seen(CnnRnnHead(F, 4), labels).rank.tolist() == [2, 0, 1, 3]

    def test_the_loss_is_that_of_the_path_in_this_order(self):
        """Label 2 is the most frequent, then 0, then 1."""
        head, features = sequence_head("cnn-rnn", 3), some_features("cnn-rnn")
        head.fit_to_labels(torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 1]], dtype=torch.int8))
        y = torch.tensor([[1.0, 1, 1], [0, 1, 0], [1, 0, 1]])
        paths = [(2, 0, 1), (1,), (2, 0)]
        each = [-math.log(path_probability(head, row, path)) for row, path in zip(features, paths, strict=True)]
        assert float(head.set_loss(features, y).detach()) == pytest.approx(sum(each) / 3, rel=1e-4)


class TestAttRnnHead:
    def test_the_loss_is_that_of_the_path_that_it_finds_easiest(self):
        """At each step the present label that it now gives the highest probability, whatever absent ones get."""
        head, features = sequence_head("att-rnn", 3), some_features("att-rnn")
        expected = []
        for row in features:
            first = max((0, 2), key=lambda label: float(walk(head, row, ())[0][label]))
            expected.append(-math.log(path_probability(head, row, (first, 2 - first))))
        y = torch.tensor([[1.0, 0, 1]]).expand(3, -1)
        assert float(head.set_loss(features, y).detach()) == pytest.approx(sum(expected) / 3, rel=1e-4)

    def test_it_can_see_one_place_and_not_another(self):
        """The order of regions tells nothing; what one of them shows does."""
        head, features = sequence_head("att-rnn", 3), some_features("att-rnn")
        torch.testing.assert_close(head(features.flip(1)), head(features))
        swapped = features.clone()
        swapped[:, 0], swapped[:, 1] = 2 * features[:, 0], features[:, 1] - features[:, 0]  # the mean stays
        assert not torch.allclose(head(swapped), head(features), atol=1e-2)


def sets_that_exclude_one_another(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The image tells label 7 alone. Of the others there are {0, 1} (46 %), or {2} and one of 3 to 6 (13.5 % each).

    Label 2, at 54 %, is the most probable, but {2} is never the truth, and {0, 1, 2} neither: of the sets that some
    threshold gives to independent probabilities none is ever right. The set to guess is {0, 1}, right in 46 %.
    """
    draws = torch.Generator().manual_seed(seed)
    x, which = torch.randn(n, 4, generator=draws), torch.rand(n, generator=draws)
    y = torch.zeros(n, 8)
    y[:, 7] = (x[:, 0] > 0).float()
    first = which < 0.46
    y[:, :2] = first[:, None].float()
    y[:, 2] = (~first).float()
    y[torch.arange(n)[~first], 3 + ((which[~first] - 0.46) / 0.135).long().clamp(max=3)] = 1
    return x, y


def scattered(x: Tensor, seed: int) -> Tensor:
    """Regions [B, 4, F] whose mean is x: the image stands at one place, noise that cancels out everywhere."""
    draws = torch.Generator().manual_seed(seed)
    regions = torch.randn(len(x), 4, x.shape[1], generator=draws)
    regions -= regions.mean(dim=1, keepdim=True)
    regions[torch.arange(len(x)), torch.randint(4, (len(x),), generator=draws)] += 4 * x
    return regions


class TestSetsThatExcludeOneAnother:
    @pytest.fixture
    def rows(self):
        return *sets_that_exclude_one_another(3000, seed=0), *sets_that_exclude_one_another(1000, seed=1)

    @pytest.mark.parametrize("hidden", [0, 32])
    def test_independent_sigmoids_are_hardly_ever_right(self, rows, hidden):
        x, y, x_test, y_test = rows
        head = trained("linear", x, y, hidden, steps=300, rate=1e-2)
        assert best_exact_match(head(x_test).detach(), y_test) < 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", SEQUENTIAL)
    def test_a_sequence_head_finds_the_set_to_guess(self, rows, kind):
        x, y, x_test, y_test = rows
        if HEADS[kind].spatial:
            x, x_test = scattered(x, seed=2), scattered(x_test, seed=3)
        head = trained(kind, x, y, hidden=32, steps=300, rate=1e-2)
        assert exact_match(head(x_test), y_test) > 0.4


class TestRlsdHead:
    def test_a_label_is_as_likely_as_in_the_region_where_it_is_likeliest(self):
        head, features = seeded_head("rlsd", F, L, 16, seed=0), some_features("rlsd")
        alone = torch.stack([head(features[:, [place]]) for place in range(S)])
        torch.testing.assert_close(head(features), alone.amax(dim=0))
        assert len(alone.argmax(dim=0).unique()) > 1, "not always the same region"

    def test_a_region_s_labels_lead_to_others(self):
        """What the first step finds is read by the later ones."""
        head, features = seeded_head("rlsd", F, L, 16, seed=0), some_features("rlsd")
        before = head(features)
        with torch.no_grad():
            head.embed.weight.mul_(20)
        assert not torch.allclose(head(features), before, atol=1e-3)


class TestMlDecoderHead:
    def test_there_is_a_query_for_each_of_a_few_labels_and_one_for_each_group_of_many(self):
        assert [MlDecoderHead(F, n, 16).queries.shape[0] for n in (5, 100, 250)] == [5, 100, 100]
        assert [MlDecoderHead(F, n, 16).group_weight.shape[2] for n in (5, 100, 250)] == [1, 1, 3]

    def test_a_group_s_labels_are_told_by_its_own_query(self):
        """Of 250 labels in groups of 3, query 10 tells 30, 31 and 32; the last group would reach past the labels."""
        head, features = seeded_head("ml-decoder", F, 250, 16, seed=0), some_features("ml-decoder")
        before = head(features)
        with torch.no_grad():
            head.queries[10] = -head.queries[10]
        changed = (head(features) - before).abs().amax(dim=0) > 1e-6
        assert before.shape == (3, 250) and changed.nonzero().flatten().tolist() == [30, 31, 32]

    def test_the_order_of_regions_tells_nothing(self):
        head, features = seeded_head("ml-decoder", F, L, 16, seed=0), some_features("ml-decoder")
        torch.testing.assert_close(head(features.flip(1)), head(features))


def two_things_at_the_same_place(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of nine places, one shows thing A and one thing B: the same one where the label is present, in 20 % of images.

    So it is for either of two labels, each with two things of its own. The mean over places shows A and B always.
    """
    draws = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, 2, generator=draws) < 0.2).float()
    regions = 0.3 * torch.randn(n, 9, 4, generator=draws)
    places, rows = torch.rand(n, 9, generator=draws).argsort(dim=1), torch.arange(n)
    for label in range(2):
        place, other = places[:, 2 * label], places[:, 2 * label + 1]
        regions[rows, place, 2 * label] += 2
        regions[rows, torch.where(y[:, label] > 0, place, other), 2 * label + 1] += 2
    return regions, y


class TestTwoThingsAtTheSamePlace:
    """Average precision is 0.2 for a head that sees nothing."""

    @pytest.fixture
    def rows(self):
        return *two_things_at_the_same_place(2000, seed=0), *two_things_at_the_same_place(1000, seed=1)

    @pytest.mark.parametrize("hidden", [0, 64])
    def test_independent_sigmoids_over_the_mean_see_nothing(self, rows, hidden):
        x, y, x_test, y_test = rows
        head = trained("linear", x.mean(dim=1), y, hidden, steps=300, rate=1e-2)
        assert mean_ap(head(x_test.mean(dim=1)), y_test) < 0.3

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if HEADS[kind].spatial and kind not in SEQUENTIAL])
    def test_a_spatial_head_sees_it(self, rows, kind):
        x, y, x_test, y_test = rows
        head = trained(kind, x, y, hidden=64, steps=200, rate=3e-3)
        assert mean_ap(head(x_test), y_test) > 0.95


class TestGcnHead:
    def test_the_graph_by_hand(self):
        """P(1|0) = 2/4, P(0|1) = 2/2, P(3|0) = 1/4, P(0|3) = P(1|3) = 1, P(3|1) = 1/2; label 2 goes alone.

        0 leans on 1, 1 on 0 and 3, 3 on 0 and 1. Label 2's own 0.8 is normalised to 1.
        """
        labels = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.int8)
        expected = [[0.8, 0.2, 0, 0], [0.1, 0.8, 0, 0.1], [0, 0, 1, 0], [0.1, 0.1, 0, 0.8]]
        torch.testing.assert_close(label_graph(labels), torch.tensor(expected))
        assert torch.equal(seen(GcnHead(F, 4), labels).graph, label_graph(labels))

    def test_an_unknown_label_is_not_taken_for_absent(self):
        """Label 1 is known in one of three images of label 0, and present there: P(1|0) = 1, not 1/3; P(0|1) = 1/3.

        The rows of the graph sum to 1 and 0.8, so what 0 takes of 1 is 0.2 / sqrt(0.8).
        """
        labels = torch.tensor([[1, 1], [1, -1], [1, -1], [0, 1], [0, 1]], dtype=torch.int8)
        torch.testing.assert_close(label_graph(labels), torch.tensor([[0.8, 0.2 / 0.8**0.5], [0, 1]]))
        torch.testing.assert_close(label_graph(labels.clamp(min=0)), torch.eye(2))

    def test_it_is_linear_in_the_features(self):
        head = seen(seeded_head("gcn", F, L, 16, seed=0), some_labels())
        one, other = some_features("gcn", seed=1), some_features("gcn", seed=2)
        torch.testing.assert_close(head(one) + head(other), head(one + other) + head(torch.zeros(3, F)))

    @pytest.mark.parametrize("hidden", [0, 64])
    def test_logits_begin_near_zero(self, hidden):
        """Over 2048 features as wide as a backbone's, whatever the width."""
        x = torch.randn(50, 2048, generator=torch.Generator().manual_seed(0)).relu()
        assert seeded_head("gcn", 2048, 20, hidden, seed=0)(x).abs().max() < 1


def labels_that_go_along(seed: int) -> tuple[Tensor, Tensor]:
    """Three labels are told by a direction of their own; three others go along with one of them in 9 of 10 images.

    In the 400 training rows the latter are known in one of ten images, and present in about seven.
    """
    draws = torch.Generator().manual_seed(seed)
    x, direction = torch.randn(2400, 64, generator=draws), torch.randn(64, 3, generator=draws) / 8
    leading = x @ direction > 0.85
    y = torch.cat([leading, leading & (torch.rand(2400, 3, generator=draws) < 0.9)], dim=1).float()
    y[:400, 3:][torch.rand(400, 3, generator=draws) > 0.1] = -1
    return x, y


class TestLabelsThatGoAlong:
    """What the graph gains is not expressed but learned: a label of few examples shares those of its neighbour."""

    def test_a_label_of_few_examples_learns_from_the_one_that_it_goes_along_with(self):
        """Its average precision beside that of independent sigmoids, trained as long or three times as long, and beside
        that of the same head without a graph. (A hidden layer, too, shares what labels have in common without one.)
        """
        gains, of_the_graph = [], []
        for seed in range(5):
            x, y = labels_that_go_along(seed)
            rare = {}
            for name, kind, graph, steps, rate in (
                ("graph", "gcn", True, 150, 3e-3),
                ("no graph", "gcn", False, 150, 3e-3),
                ("sigmoids", "linear", True, 150, 1e-2),
                ("sigmoids, longer", "linear", True, 450, 1e-2),
            ):
                head = seeded_head(kind, 64, 6, 128 if kind == "gcn" else 0, seed)
                if graph:
                    head.fit_to_labels(y[:400].to(torch.int8))
                train(head, x[:400], y[:400], steps, rate)
                rare[name] = mean_ap(head(x[400:])[:, 3:], y[400:, 3:])
            gains.append(rare["graph"] - max(rare["sigmoids"], rare["sigmoids, longer"]))
            of_the_graph.append(rare["graph"] - rare["no graph"])
        assert min(gains) > 0.1 and sum(gains) / 5 > 0.2
        assert min(of_the_graph) > 0.05 and sum(of_the_graph) / 5 > 0.1


@pytest.mark.parametrize("kind", SEQUENTIAL)
def test_a_search_over_scores_that_are_no_numbers_ends(kind):
    head = seeded_head(kind, F, L, 0, seed=0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(torch.nan)
    assert head(some_features(kind)).shape == (3, L)
