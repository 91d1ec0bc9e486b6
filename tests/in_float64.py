"""Train in double precision, in one process or as one of several: `python in_float64.py IMAGES_CSV FEATURES OUT`.

Run by test_worlds.py. The command line has no flag for it: what it shows (that several processes compute what one does)
is rounded away in single precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from labeldep_cli.config import AdversarialConfig, Machine, PretrainConfig, Source, Workspace
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.claims import Job


def main(images: Path, features: Path, out: Path) -> None:
    """Both stages in both modes; batches of 7 rows leave the processes unequal shares, and the last ones fewer."""
    torch.set_default_dtype(torch.float64)
    machine = Machine(device="cpu", workers=0)
    for source, full in ((Source(str(features)), False), (Source(str(images), "scenesnet"), True)):
        workspace = Workspace(out / "data", out / ("full" if full else "head"))
        common = {"full": full, "batch_size": 7, "lr": 1e-3, "head": "linear", "steps": 15 if full else 50}
        first = pretrain(
            workspace, source, machine, PretrainConfig(**common), Job(out / f"pretrain-{full}"), SilentReporter()
        )
        for critic in ("wgan-gp",) if full else ("wgan-gp", "nce"):
            config = AdversarialConfig(**common, critic=critic, critic_width=32, critic_projection=16)
            job = Job(out / f"{critic}-{full}")
            adversarial(workspace, source, machine, config, str(first.folder), job, SilentReporter())


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
