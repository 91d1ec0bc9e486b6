"""`labeldep predict --stdin-json`: answer requests one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from labeldep_cli.compute.devices import pick_device, set_up_device
from labeldep_cli.config import ACCEPT_ALL, AcceptConfig, DecisionConfig, Machine, RunWorkspace
from labeldep_cli.labelling.acceptance import acceptance_of, limited
from labeldep_cli.labelling.labeller import open_labeller
from labeldep_cli.labelling.serve import REQUEST_FORMS, Answer, answer, threads_for_one
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.find import open_and_announce


def serve(
    run_workspace: RunWorkspace,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    weights: str | None,
    requests: Iterable[bytes],
    everything: bool,
    reporter: Reporter,
    value_range: str | None = None,
    accept: AcceptConfig = ACCEPT_ALL,
) -> Iterator[Answer]:
    """Answer requests, one by one, in this process.

    Args:
        run_workspace: the folder of the runs.
        run_name: as `find_run` takes it; None for the newest run.
        machine: the device to compute on; no workers are started.
        decision: which labels make a set.
        weights: a path that replaces the recorded one.
        requests: lines of JSON, each `{"path": ...}`, `{"paths": [...]}` or `{"image": BASE64}`, with an optional `id`.
        everything: add the probabilities of all labels to the answers.
        reporter: gets a note as soon as requests can be answered without a start-up delay.
        value_range: "LOW,HIGH" for pixels with more than 8 bits, if the run has none.
        accept: which sets are accepted; each answer says whether it is.

    Yields:
        One answer per request: `path` (null for an `image`), `labels` and `confidence`, or `path` and `skipped`; for
        `paths` a list of these in `predictions`; for an invalid request `error`. It contains the request's `id`.

    Raises:
        LabeldepError: there is no such run, it is a run on ready features, the weights are not the run's, or val
            does not reach the precision that `accept` asks for.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    set_up_device(pick_device(machine.device))
    acceptance = acceptance_of(accept, decision, run)
    labeller = limited(open_labeller(run, machine, decision, weights, reporter, value_range), acceptance, reporter)
    few, every = threads_for_one(labeller), torch.get_num_threads()
    reporter.note(f"ready: one request a line, {REQUEST_FORMS}")
    try:
        for line in requests:
            torch.set_num_threads(every if b'"paths"' in line else few)
            yield answer(labeller, line, everything)
    finally:
        torch.set_num_threads(every)
