"""Train a timm model on multi-label photos, without the label-set critic and (--critic) with it.

    python examples/timm_classifier.py labels.csv --model resnet18 --pretrained
    python examples/timm_classifier.py labels.csv --model resnet18 --pretrained --critic

This is a plain training script of its own: timm, PyTorch and scikit-learn. The lines that end in `# +` are all that
labeldep adds; without them nothing else changes. CSV: path,split,label,label,... with ones and zeros; the splits are
train, val and test; paths are relative to the file.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from labeldep_cli import LabelDependencyLoss  # +


class Photos(Dataset):
    """The photos of one split: (image, labels [L])."""

    def __init__(self, table, split, transform):
        rows = list(csv.reader(table.open(encoding="utf-8")))
        self.labels, self.folder, self.transform = rows[0][2:], table.parent, transform
        self.rows = [row for row in rows[1:] if row[1] == split]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        path, _, *y = self.rows[index]
        image = Image.open(self.folder / path).convert("RGB")
        return self.transform(image), torch.tensor([float(value) for value in y])


def forward(model, x, device):
    """Pooled features [B, F] and logits [B, L]."""
    features = model.forward_head(model.forward_features(x.to(device)), pre_logits=True)
    return features, model.get_classifier()(features)


@torch.no_grad()
def collect(model, loader, device):
    """Logits, features and labels of a split."""
    model.eval()
    parts = [(*forward(model, x, device), y.to(device)) for x, y in loader]
    features, logits, y = (torch.cat(part) for part in zip(*parts, strict=True))
    return logits, features, y


def scores(chosen, logits, y):
    """Per cent: mAP; CF1, the harmonic mean of the labels' mean precision and recall; OF1; exact match."""
    p, r = (f(y, chosen, average="macro", zero_division=0) for f in (precision_score, recall_score))
    found = {
        "mAP": average_precision_score(y, logits, average="macro"),
        "CF1": 2 * p * r / max(p + r, 1e-9),
        "OF1": f1_score(y, chosen, average="micro", zero_division=0),
        "exact_match": (chosen == y).all(axis=1).mean(),
    }
    return {name: round(100 * float(value), 1) for name, value in found.items()}


def main():
    """Train, choose the threshold on val, score on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--pretrained", nargs="?", const="hub", help="timm's published weights, or a file of them")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--critic", choices=("wgan-gp", "nce"), nargs="?", const="nce")  # +
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    n_labels = len(Photos(args.table, "train", None).labels)
    file = {"file": args.pretrained} if args.pretrained not in (None, "hub") else None
    model = timm.create_model(
        args.model, pretrained=bool(args.pretrained), pretrained_cfg_overlay=file, num_classes=n_labels
    ).to(args.device)
    config = timm.data.resolve_data_config({"input_size": (3, args.size, args.size)}, model=model)
    seen = {"train": timm.data.create_transform(**config, is_training=True, auto_augment=None, re_prob=0.0)}
    loaders = {
        split: DataLoader(
            Photos(args.table, split, seen.get(split) or timm.data.create_transform(**config)),
            args.batch_size,
            shuffle=split == "train",
            num_workers=args.workers,
        )
        for split in ("train", "val", "test")
    }
    optimizer = torch.optim.AdamW(model.parameters(), args.lr)
    bce = nn.BCEWithLogitsLoss()
    if args.critic:  # +
        critic = LabelDependencyLoss(n_labels, model.num_features, critic=args.critic).to(args.device)  # +

    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for x, y in loaders["train"]:
            y = y.to(args.device)
            features, logits = forward(model, x, args.device)
            loss = bce(logits, y)
            if args.critic:  # +
                critic.step(logits, features, y)  # +
                loss = loss + critic.generator_loss(logits, features)  # +
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        print(f"epoch {epoch + 1}: loss {total / len(loaders['train'].dataset):.4f}", flush=True)

    val, test = (collect(model, loaders[split], args.device) for split in ("val", "test"))
    (val_logits, _, val_y), (logits, features, y) = ([t.cpu().numpy() for t in part] for part in (val, test))
    cuts = np.quantile(val_logits, np.linspace(0.01, 0.99, 197))
    tuned = max(cuts, key=lambda cut: f1_score(val_y, val_logits > cut, average="micro", zero_division=0))
    found = {"p > 0.5": scores(logits > 0, logits, y), "tuned": scores(logits > tuned, logits, y)}
    if args.critic:  # +
        found["rerank"] = scores(critic.rerank(*test[:2], critic.tune_beta(*val)).cpu().numpy(), logits, y)  # +
    print(json.dumps({"critic": vars(args).get("critic"), "seed": args.seed, "test": found}))


if __name__ == "__main__":
    main()
