"""p(y|x) over candidate sets: the best set, and the probabilities."""

import math

import pytest
import torch

from labeldep_cli.evaluation.posterior import SetPosterior, independent, independent_log_probability

SETS = torch.tensor([[[True, False], [True, True], [False, False]]])
POSTERIOR = SetPosterior(SETS, torch.tensor([[math.log(4), math.log(2), math.log(2)]]))


def test_probabilities_sum_to_one_and_a_temperature_makes_them_more_equal():
    assert POSTERIOR.probabilities()[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert POSTERIOR.probabilities(2.0)[0, 0].item() == pytest.approx(2 / (2 + 2 * math.sqrt(2)))
    assert POSTERIOR.best().tolist() == [[True, False]]


def test_a_candidate_to_ignore_is_never_chosen():
    ignored = SetPosterior(SETS, torch.tensor([[-math.inf, 0.0, 1.0]]))
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
