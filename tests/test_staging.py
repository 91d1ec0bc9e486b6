"""What an update draws travels to the device in one copy that nobody waits for; on the simulated one."""

from __future__ import annotations

import copy
import pickle
from itertools import islice

import pytest
import torch
from on_device import CPU, CUDA, Race, simulated_cuda
from test_on_device import CRITIC, F, L, make_inputs, make_step

from labeldep_cli import LabelDependencyLoss
from labeldep_cli.compute import staging
from labeldep_cli.compute.distributed import World
from labeldep_cli.compute.staging import Staging
from labeldep_cli.inputs.batches import Request, in_order

MIXED = [
    torch.arange(5),
    torch.rand(3, 2),
    torch.tensor([True, False, True]),
    torch.zeros(0, 4),
    torch.arange(6, dtype=torch.int8).view(2, 3).T,
    torch.rand(2, 1, 3, dtype=torch.float64),
    torch.tensor(7.0, dtype=torch.float16),
]


class TestStaging:
    def test_to_a_cpu_tensors_are_themselves(self):
        assert all(one is other for one, other in zip(Staging(CPU)(MIXED), MIXED, strict=True))

    def test_tensors_of_all_kinds_travel_in_one_copy(self):
        with simulated_cuda() as device:
            there = Staging(CUDA)(MIXED)
            assert len(device.copies) == 1 and device.copies[0].free and not device.waits, device.told()
            for one, other in zip(there, MIXED, strict=True):
                assert one.device == CUDA and one.dtype == other.dtype and torch.equal(one.cpu(), other)

    def test_nothing_is_no_copy(self):
        with simulated_cuda() as device:
            (there,) = Staging(CUDA)([torch.zeros(0, 3)])
            assert there.shape == (0, 3) and there.device == CUDA and not device.copies

    def test_what_has_come_stays_as_it_came(self):
        """Buffers are written again, and grow; the device's tensors are their own."""
        sent = [torch.full((3 + 5 * (k % 7), 2), float(k)) for k in range(20)]
        with simulated_cuda():
            stage = Staging(CUDA)
            there = [stage([tensor])[0] for tensor in sent]
            assert all(torch.equal(one.cpu(), other) for one, other in zip(there, sent, strict=True))

    def test_the_host_waits_for_the_copy_of_four_calls_ago_at_most(self):
        with simulated_cuda() as device:
            stage = Staging(CUDA)
            for k in range(12):
                stage([torch.full((4,), k)])[0].add(1)  # one kernel a call
            assert [wait.queued for wait in device.waits] == [4] * 8

    def test_a_buffer_that_evaluation_made_can_be_written_in_training(self, monkeypatch):
        """In real inference mode, which the simulated device does without; but there is no page-locked memory here."""
        empty = torch.empty
        monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
        slot = staging.Slot()
        with torch.inference_mode():
            slot.take(8)
        assert slot.take(8).fill_(1).sum() == 8

    def test_a_copy_of_it_has_buffers_of_its_own(self):
        with simulated_cuda() as device:
            stage = Staging(CUDA)
            for one in (stage, copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
                assert one([torch.ones(3)])[0].device == CUDA
            assert not device.waits

    def test_without_that_wait_a_copy_would_be_overtaken(self, monkeypatch):
        with pytest.raises(Race, match=r"staging\.py:\d+: the source"), simulated_cuda():
            monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda event: None)
            stage = Staging(CUDA)
            for k in range(staging._SLOTS + 1):
                stage([torch.full((4,), k)])


@pytest.mark.parametrize(
    ("critic", "most"),
    [
        ({}, 4),
        ({"negatives": False}, 4),
        ({"freeze_generator": True}, 3),
        ({"critic": "nce"}, 4),
        ({"critic": "nce", "freeze_generator": True}, 3),
        (None, 1),  # the logistic loss alone
    ],
)
def test_an_iteration_copies_once_an_update_and_waits_for_nothing_recent(critic, most):
    """Three updates of D and one of G; once it was 40 copies, each of them waited for."""
    with simulated_cuda() as device:
        inputs = make_inputs(30, CUDA)
        step, _ = make_step(inputs, "linear", critic)
        batches = inputs.stream(step.requests(0))
        counted = []
        for number in range(9):  # two epochs of four batches, the last of each of 6 rows
            device.clear()
            step(number, batches)
            counted.append(device.kernels.total())
            assert len(device.copies) == most and all(copy.free for copy in device.copies), device.told()
            assert all(wait.why == "Event.synchronize" for wait in device.waits), device.told()
            assert all(wait.queued >= min(counted) for wait in device.waits), "an iteration is queued behind it"
        assert device.waits, "buffers were written again"


def test_batches_hold_the_rows_views_and_draws_asked_for():
    here = make_inputs(30, CPU)
    asked = [Request(torch.arange(k, k + 4), torch.tensor([0, 1, 1, 0]), 4, True, (torch.rand(4, k),)) for k in (3, 5)]
    with simulated_cuda():
        (batches,) = make_inputs(30, CUDA).stream([asked])
        for request, batch in zip(asked, batches, strict=True):
            assert torch.equal(batch.x.cpu(), here.features[request.rows, request.views])
            assert torch.equal(batch.y.cpu(), here.labels[request.rows].float())
            assert torch.equal(batch.rows.cpu(), request.rows) and batch.global_batch_size == 4
            assert torch.equal(batch.draws[0].cpu(), request.draws[0])


def test_evaluation_copies_once_a_batch():
    with simulated_cuda() as device:
        inputs = make_inputs(30, CUDA)
        inputs.batch = 8
        device.clear()
        assert [len(batch.x) for batch in in_order(inputs)] == [8, 8, 8, 6]
        assert len(device.copies) == 4 and all(copy.free for copy in device.copies), device.told()


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_a_frozen_generator_s_critic_is_judged_alike_in_every_process(kind):
    """Each of several processes judges on all validation rows, not with its share of their noise."""
    train, val = make_inputs(30, CPU), make_inputs(17, CPU, seed=1)
    found = []
    for world in (World(), World(1, 3)):
        step, _ = make_step(train, "linear", {"critic": kind, "freeze_generator": True})
        step.world = world
        found.append(step.quality(val))
    assert found[0] is not None and found[0] == found[1]


def test_processes_share_an_update_and_its_draws():
    """The parts of what each of three processes asks for make up what one asks for."""
    inputs = make_inputs(30, CPU)
    steps = [make_step(inputs, "linear", {})[0] for _ in range(4)]
    for rank, step in enumerate(steps[1:]):
        step.world = World(rank, 3)
    whole, *shares = ([*islice(step.requests(0), 5)] for step in steps)
    for update, *parts in zip(whole, *shares, strict=True):
        for batch, *own in zip(update, *parts, strict=True):
            assert torch.equal(batch.rows, torch.cat([part.rows for part in own]))
            assert all(part.global_batch_size == batch.global_batch_size for part in own)
            for drawn, *pieces in zip(batch.draws, *(part.draws for part in own), strict=True):
                assert torch.equal(drawn, torch.cat(pieces)) and len(drawn) == len(batch.rows)


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_the_loss_for_one_s_own_loop_looks_at_what_it_is_given_and_waits_for_nothing_else(kind):
    with simulated_cuda() as device:
        critic = LabelDependencyLoss(L, F, critic=kind, **CRITIC).to(CUDA)
        x, y = torch.rand(8, F, device=CUDA), torch.eye(8, L, device=CUDA)
        logits = x[:, :L].clone().requires_grad_()
        critic.step(logits, x, y)
        device.clear()
        critic.step(logits, x, y)
        assert len(device.copies) == 3 and all(copied.free for copied in device.copies), device.told()
        looks = [wait for wait in device.waits if wait.why != "Event.synchronize"]
        assert len(looks) == (3 if kind == "wgan-gp" else 2), "labels, finite numbers; labels to draw mismatches from"
        device.clear()
        critic.generator_loss(logits, x).backward()
        assert len(device.copies) == 1 and device.copies[0].free
        assert all(wait.why == "Event.synchronize" for wait in device.waits), device.told()
