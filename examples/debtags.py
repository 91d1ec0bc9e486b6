"""Make a multi-label text data set of Debian's package descriptions and their debtags, as ready embeddings.

    apt-cache dumpavail | python examples/debtags.py debtags.npz [--model FOLDER]

One row a tagged package: X is the embedding of its one-line description, Y its tags (implemented-in::c, role::program,
...), the 40 most frequent. Without --model, X is TF-IDF reduced to 256 dimensions by an SVD; with it, what
sentence-transformers makes of the text with the model in that folder. The rows are a seeded draw.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np


def packages(lines):
    """(description, tags) of each tagged package, in order of its name; of several versions the last."""
    found = {}
    for record in "".join(lines).split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): *((?:.*)(?:\n .*)*)", record, flags=re.MULTILINE))
        if "Tag" in fields and "Description" in fields:
            text = fields["Description"].splitlines()[0]
            found[fields["Package"]] = (text, re.split(r",\s*", fields["Tag"].strip()))
    return [found[name] for name in sorted(found)]


def embed(texts, folder):
    """Embeddings float32 [N, F]."""
    if folder is not None:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu").encode(texts, batch_size=64)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    reduced = TruncatedSVD(min(256, counts.shape[1] - 1), random_state=0).fit_transform(counts)
    return reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-9)


def main():
    """Read stdin, write the archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--labels", type=int, default=40)
    args = parser.parse_args()

    rows = packages(sys.stdin)
    rng = np.random.default_rng(0)
    rows = [rows[k] for k in sorted(rng.permutation(len(rows))[: args.rows])]
    names = [name for name, _ in Counter(tag for _, tags in rows for tag in tags).most_common(args.labels)]
    y = np.array([[name in tags for name in names] for _, tags in rows], dtype=np.int8)
    split = np.array(["train", "val", "test"])[np.searchsorted([0.6, 0.75], rng.random(len(rows)))]
    x = np.asarray(embed([text for text, _ in rows], args.model), dtype=np.float32)
    np.savez_compressed(args.out, X=x, Y=y, label_names=np.array(names, dtype=str), split=split)
    print(f"{args.out}: {len(x)} texts, {x.shape[1]} dimensions, {len(names)} tags, {y.sum(axis=1).mean():.2f} a text")


if __name__ == "__main__":
    main()
