"""How much slower a critic's update is while another process keeps one core busy.

labeldep makes OpenMP threads sleep while they wait (`OMP_WAIT_POLICY=PASSIVE`, set before torch is imported). Spinning
threads wait for a thread that has no core, and use up the core that it needs. Each measurement is a separate process
with as many threads as cores. The cases alternate: with and without the busy process, passive and spinning.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

from benchmarks.show import Table, show

REPEATS = 5
STEPS = 20  # iterations per measurement; their median counts
LIMIT = 15.0  # seconds after which a measurement starts no further iteration
_SPIN = "while True: pass"


def command(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each case.")] = REPEATS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """An adversarial step while one core is kept busy by another process, over one on quiet cores."""
    found = run(repeats)
    rows = [
        [policy, f"{1000 * one['quiet']:.0f}", f"{1000 * one['busy']:.0f}", f"{one['busy'] / one['quiet']:.2f}"]
        for policy, one in found["seconds"].items()
    ]
    title = f"3 critic updates and 1 of G, {found['threads']} threads, medians of {repeats}"
    show(found, [Table(title, ("waiting threads", "quiet, ms", "one core busy, ms", "slowed by"), rows)], json)


def run(repeats: int) -> dict[str, Any]:
    """Measure all cases, alternating between them.

    Returns:
        `seconds` by policy ("passive", "active") and case ("quiet", "busy"), medians; `slowed`, their ratio; `threads`.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for policy in ("passive", "active"):
            for case in ("quiet", "busy"):
                taken.setdefault((policy, case), []).append(_measure(policy, case == "busy"))
    medians = {key: statistics.median(values) for key, values in taken.items()}
    seconds = {policy: {case: medians[policy, case] for case in ("quiet", "busy")} for policy in ("passive", "active")}
    slowed = {policy: one["busy"] / one["quiet"] for policy, one in seconds.items()}
    return {"seconds": seconds, "slowed": slowed, "threads": os.cpu_count()}


def _measure(policy: str, busy: bool) -> float:
    neighbour = subprocess.Popen([sys.executable, "-c", _SPIN]) if busy else None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.contention"],
            env={**os.environ, "OMP_WAIT_POLICY": policy},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return float(done.stdout)


def _step_seconds() -> float:
    """The median step of this process."""
    import torch

    from benchmarks.step import Labeldep

    step = Labeldep(torch.device("cpu"))
    step()
    taken: list[float] = []
    while len(taken) < STEPS and sum(taken) < LIMIT:
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    print(_step_seconds())
