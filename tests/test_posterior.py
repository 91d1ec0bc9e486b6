"""p(y|x) over candidate sets: the best set, and the probabilities."""

import math

import pytest
import torch

from labeldep_cli.evaluation.posterior import SetPosterior, independent, independent_log_probability, joined

SETS = torch.tensor([[[True, False], [True, True], [False, False]]])
NO_REST = torch.tensor([-math.inf])
POSTERIOR = SetPosterior(SETS, torch.tensor([[math.log(4), math.log(2), math.log(2)]]), NO_REST)


def test_probabilities_sum_to_one_and_a_temperature_makes_them_more_equal():
    assert POSTERIOR.probabilities()[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert POSTERIOR.probabilities(2.0)[0, 0].item() == pytest.approx(2 / (2 + 2 * math.sqrt(2)))
    assert POSTERIOR.best().tolist() == [[True, False]]


def test_a_candidate_to_ignore_is_never_chosen():
    ignored = SetPosterior(SETS, torch.tensor([[-math.inf, 0.0, 1.0]]), NO_REST)
    assert ignored.best().tolist() == [[False, False]]
    assert ignored.probabilities()[0, 0].item() == 0


def test_over_all_sets_of_independent_labels_it_is_the_product_of_their_probabilities():
    logits = torch.tensor([[math.log(9), math.log(2 / 3)]])  # p = 0.9 and 0.4
    posterior = independent(logits, 4)
    wanted = {(1, 0): 0.54, (1, 1): 0.36, (0, 0): 0.06, (0, 1): 0.04}
    for one, p in wanted.items():
        chosen = torch.tensor([one]).bool()
        place = (posterior.sets[0] == chosen).all(dim=1)
        assert posterior.probabilities()[0, place].tolist() == pytest.approx([p], rel=1e-5)
        assert independent_log_probability(logits, chosen).exp().item() == pytest.approx(p, rel=1e-5)
    assert posterior.best().tolist() == [[True, False]]


class TestRest:
    def test_of_independent_labels_it_is_what_the_listed_sets_leave(self):
        logits = torch.tensor([[math.log(9), math.log(2 / 3), -1.0], [0.0, 0.0, 0.0]])
        posterior = independent(logits, 1)
        shares = 1 - posterior.probabilities().sum(dim=1)
        assert shares.tolist() == pytest.approx([1 - 0.54 * torch.sigmoid(torch.tensor(1.0)).item(), 7 / 8])
        p = independent_log_probability(logits, posterior.best()).exp()
        assert posterior.probabilities()[:, 0].tolist() == pytest.approx(p.tolist(), rel=1e-5)

    def test_if_every_set_is_listed_nothing_is_left_at_any_temperature(self):
        logits = 3 * torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
        posterior = independent(logits, 32)
        assert torch.isneginf(posterior.rest).all()
        assert posterior.probabilities(5.0).sum(dim=1).tolist() == pytest.approx([1] * 500)

    def test_a_temperature_takes_it_for_one_more_set(self):
        posterior = SetPosterior(SETS, torch.tensor([[0.0, -math.inf, -math.inf]]), torch.tensor([math.log(4)]))
        assert posterior.probabilities()[0, 0].item() == pytest.approx(1 / 5)
        assert posterior.probabilities(2.0)[0, 0].item() == pytest.approx(1 / 3)

    def test_more_candidates_change_no_confidence_of_an_exact_distribution(self):
        logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
        few, many = independent(logits, 4), independent(logits, 1024)
        assert few.probabilities()[:, 0].tolist() == pytest.approx(many.probabilities()[:, 0].tolist(), rel=1e-4)

    def test_posteriors_are_joined_row_after_row(self):
        both = joined([POSTERIOR, SetPosterior(SETS, POSTERIOR.log_p + 1, torch.tensor([2.0]))])
        assert both.sets.shape == (2, 3, 2)
        assert both.rest.tolist() == [-math.inf, 2.0]
