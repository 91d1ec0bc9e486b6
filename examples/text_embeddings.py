"""Train a text classifier over ready embeddings, with the label-set critic beside it.

    apt-cache dumpavail | python examples/debtags.py debtags.npz
    python examples/text_embeddings.py debtags.npz

Any .npz will do: X [N, F] embeddings of texts (or of anything else), Y [N, L] of 1, 0 and -1 for unknown, label_names
[L] and, if there is one, split [N] of train, val and test. Three classifiers are trained, from the same start: on the
cross-entropy alone, with the paper's critic in training, and with a density ratio that learns beside it and helps to
choose the label sets at test time (`rerank`).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from labeldep_cli import LabelDependencyLoss


def read(path):
    """{split: (x float32 [N, F], standardised, and y float32 [N, L])}; without splits a draw of 60, 15 and 25 %."""
    with np.load(path) as archive:
        x, y = (torch.from_numpy(archive[key]).float() for key in ("X", "Y"))
        split = archive.get("split")
    if split is None:
        drawn = np.searchsorted([0.6, 0.75], np.random.default_rng(0).random(len(x)))
        split = np.array(["train", "val", "test"])[drawn]
    std, mean = torch.std_mean(x[split == "train"], dim=0)
    x = (x - mean) / std.clamp(min=1e-6)
    return {name: (x[split == name], y[split == name]) for name in ("train", "val", "test")}


def cross_entropy(logits, y):
    """Mean over the known entries."""
    known = y >= 0
    return nn.functional.binary_cross_entropy_with_logits(logits[known], y[known])


def train(x, y, width, epochs, seed, kind):
    """A classifier, and its critic where `kind` names one."""
    torch.manual_seed(seed)
    classifier = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, y.shape[1]))
    critic = LabelDependencyLoss(y.shape[1], x.shape[1], critic=kind, seed=seed) if kind else None
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            logits = classifier(x[rows])
            loss = cross_entropy(logits, y[rows])
            if critic is not None:
                critic.step(logits, x[rows], y[rows])  # the embedding is what the critic sees of a text
                if kind == "wgan-gp":
                    loss = loss + critic.generator_loss(logits, x[rows], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier.eval(), critic


def scores(chosen, y):
    """Per cent: micro F1, exact match; and labels a text. Unknown labels count nowhere."""
    chosen, present = chosen & (y >= 0), y > 0
    f1 = 2 * (chosen & present).sum() / (chosen.sum() + present.sum())
    exact = (chosen == present).all(dim=1).float().mean()
    return f"F1 {100 * f1:5.1f}   exact match {100 * exact:5.1f}   labels {chosen.sum() / len(y):.2f}"


def tuned(logits, y):
    """The threshold on logits with the best micro F1 on these rows."""
    known, present = y >= 0, y > 0

    def f1(cut):
        chosen = (logits > cut) & known
        return 2 * (chosen & present).sum() / (chosen.sum() + present.sum())

    return max(torch.linspace(-4, 4, 161).tolist(), key=f1)


def main():
    """Train the three, and print their scores on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()

    splits = read(args.archive)
    (val_x, val_y), (x, y) = splits["val"], splits["test"]
    for seed in range(args.seeds):
        for kind in (None, "wgan-gp", "nce"):
            classifier, critic = train(*splits["train"], args.width, args.epochs, seed, kind)
            with torch.no_grad():
                val_logits, logits = classifier(val_x), classifier(x)
            name = f"seed {seed}  {kind or 'no critic'}"
            print(f"{name:17s}  p > 0.5  {scores(logits > 0, y)}")
            print(f"{name:17s}  tuned    {scores(logits > tuned(val_logits, val_y), y)}", flush=True)
            if critic is not None:
                beta = critic.tune_beta(val_logits, val_x, val_y)
                print(f"{name:17s}  rerank   {scores(critic.rerank(logits, x, beta), y)}   beta {beta}", flush=True)


if __name__ == "__main__":
    main()
