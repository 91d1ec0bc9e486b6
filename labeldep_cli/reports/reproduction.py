"""The tables of `labeldep reproduce` as Markdown and LaTeX, made from a table's JSON record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from labeldep_cli.reports import paper
from labeldep_cli.reports.tables import decision
from labeldep_cli.text import visible

Grid = Sequence[Sequence[str]]
"""Rows of cells; the first is the header."""

_HEADS = {
    "CP": "C-P",
    "CR": "C-R",
    "CF1": "C-F1",
    "OP": "O-P",
    "OR": "O-R",
    "OF1": "O-F1",
    "mAP": "mAP",
    "exact_match": "exact match",
    "labels_per_image": "labels an image",
}
_SETS = ("CP", "CR", "CF1", "OP", "OR", "OF1", "labels_per_image", "exact_match")
_GAINS = (*_SETS, "mAP")
_SUBJECTS = {1: "multi-label classification, the paper's Table 1", 2: "multi-label classification, the paper's Table 2"}
_ABLATIONS = "scores with and without parts of the method, the paper's Table 3"
PAPER = "the paper"
GAIN = "The gain taken apart"


def score_grid(record: Mapping[str, Any]) -> Grid:
    """The main table: one row per network, followed by the paper's numbers where the paper has them."""
    columns = record["columns"]
    rows = [["", "decision", *(_HEADS[name] for name in columns)]]
    for row in record["rows"]:
        cells = [_mean(row["scores"][name], 2 if name == "labels_per_image" else 1) for name in columns]
        rows.append([row["row"], decision(row["decision"]), *cells])
        if row["paper"]:
            published = (f"{row['paper'][name]:.1f}" if name in row["paper"] else "" for name in columns)
            rows.append([PAPER, "", *published])
    return rows


def gain_grid(record: Mapping[str, Any]) -> Grid:
    """The second table: each difference under every decision rule."""
    rows = [["difference", "decision", *(_HEADS[name] for name in _GAINS)]]
    for title, lines in groupby(record["gain"], key=lambda line: str(line["gain"])):
        for k, line in enumerate(lines):
            same = line["decision"] == line["beside_decision"]
            rule = line["decision"] if same else f"{line['decision']} minus {line['beside_decision']}"
            ranking = [] if k or line["mAP"] is None else ["mAP"]  # mAP depends on no decision, so it is shown once
            cells = [
                _interval(line[name], 2 if name == "labels_per_image" else 1) if name in (*_SETS, *ranking) else ""
                for name in _GAINS
            ]
            rows.append(["" if k else title, rule, *cells])
    return rows


def caption(record: Mapping[str, Any]) -> str:
    """The caption: what the table shows, in one line."""
    subject = _SUBJECTS.get(record["table"], _ABLATIONS)
    mode = "full mode" if record["protocol"]["full"] else "head mode"
    return (
        f"Table {record['table']}. {record['dataset']}, {record['split']}: {subject}; {mode}, {_seeds(record)}, "
        f"{record['n_images']} images, {record['n_labels']} labels, "
        f"{record['true_labels_per_image']:.2f} true labels an image."
    )


def notes(record: Mapping[str, Any]) -> list[str]:
    """Notes that a reader needs to understand the numbers, one sentence each."""
    several_seeds = len(record["seeds"]) > 1
    spread = "mean ± standard deviation over seeds (n - 1)" if several_seeds else "one seed: no spread is known"
    sentences = [f"Scores in per cent; {spread}. Control: the same network trained as long without a critic."]
    if any(row["paper"] for row in record["rows"]):
        sentences.append("The paper's numbers are of whole networks fine-tuned at 224 pixels, one run each.")
    sentences += [f"Left out: {left['row']} ({left['reason']})." for left in record["left_out"]]
    protocol = record["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in protocol["versions"].items())
    return [
        *sentences,
        f"Protocol: {record['split']} rows {protocol['ids_sha256'][:8]} (split seed {protocol['split_seed']}), "
        f"labels {protocol['labels_sha256'][:8]}, {protocol['ap']} AP; {versions}.",
    ]


def gain_notes(record: Mapping[str, Any]) -> list[str]:
    """Notes on how to read the second table."""
    several_seeds = len(record["seeds"]) > 1
    intervals = (
        "images (paired bootstrap) and seeds (Student's t)"
        if several_seeds
        else "images (paired bootstrap) of this one seed"
    )
    spread = "± is the standard deviation over seeds; " if several_seeds else ""
    return [
        f"Differences in points; {spread}brackets: {record['level']:g} % interval over {intervals}.",
        "tuned: each at its own threshold, chosen on val; equal labels: each at the threshold that gives as many "
        "labels an image as val truly has. A gain that exists only at p > 0.5 comes from the threshold.",
        f"The paper's four networks on {paper.DATA[2 if record['table'] == 2 else 1]}, + WGAN-gp minus baseline at "
        f"p > 0.5: {_paper_range(2 if record['table'] == 2 else 1)}.",
    ]


def _paper_range(table: int) -> str:
    """The smallest and the largest of the paper's differences, column by column."""
    differences = paper.differences(table)
    ranges = {name: sorted(difference[name] for difference in differences.values()) for name in paper.COLUMNS}
    return ", ".join(f"{_HEADS[name]} {_signed(values[0])} to {_signed(values[-1])}" for name, values in ranges.items())


def markdown(record: Mapping[str, Any]) -> str:
    """Both tables with their notes as Markdown."""
    parts = [f"**{markdown_text(caption(record))}**", _markdown_grid(score_grid(record), text=2)]
    parts += map(markdown_text, notes(record))
    parts += [f"**{GAIN}.**", _markdown_grid(gain_grid(record), text=2), *gain_notes(record)]
    return "\n\n".join(parts) + "\n"


def latex(record: Mapping[str, Any]) -> str:
    r"""Two `table` environments, for a document with \usepackage{booktabs,graphicx}."""
    first = _latex_table(score_grid(record), " ".join([caption(record), *notes(record)]), f"table{record['table']}")
    caption_text = f"{GAIN} (Table {record['table']}). " + " ".join(gain_notes(record))
    return first + "\n" + _latex_table(gain_grid(record), caption_text, f"table{record['table']}-gain")


def _mean(cell: Mapping[str, Any], digits: int) -> str:
    spread = "" if cell["spread"] is None else f" ± {cell['spread']:.{digits}f}"
    return f"{cell['mean']:.{digits}f}{spread}"


def _interval(cell: Mapping[str, Any], digits: int) -> str:
    spread = "" if cell["spread"] is None else f" ± {cell['spread']:.{digits}f}"
    low, high = (_signed(cell[end], digits) for end in ("low", "high"))
    return f"{_signed(cell['difference'], digits)}{spread} [{low}, {high}]"


def _signed(points: float, digits: int = 1) -> str:
    """A number with its sign; what rounds to zero gets a plus, not a minus."""
    text = f"{points:+.{digits}f}"
    return text if float(text) else text.replace("-", "+")


def _seeds(record: Mapping[str, Any]) -> str:
    seeds = record["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _markdown_grid(grid: Grid, text: int) -> str:
    """A Markdown table; the first `text` columns are words, the others numbers."""
    header, *rows = [[*map(markdown_text, row[:text]), *row[text:]] for row in grid]
    rule = ["---" if k < text else "---:" for k in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


_MARKS = re.compile(r"(?<!\w)_|_(?!\w)|[\\`*{}\[\]<|~&$#!]")
"""What Markdown would take for markup; `_` within a word and `>` within a line are none."""


def markdown_text(words: str) -> str:
    """Plain text as Markdown source of one line."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", visible(words))


_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
}


def latex_text(words: str) -> str:
    """Plain text as LaTeX source of one line; a hyphen before a number becomes a minus sign."""
    source = re.sub(r"(?<![\w)])-(?=\d)", "$-$", "".join(_SPECIAL.get(sign, sign) for sign in visible(words)))
    return f"{{}}{source}" if source.startswith(("[", "*")) else source  # it would be an option of the line before


def _latex_table(grid: Grid, caption_text: str, label: str) -> str:
    header, *rows = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in grid]
    body = "\n".join(rows)
    return rf"""\begin{{table}}
\centering
\caption{{{latex_text(caption_text)}}}
\label{{{label}}}
\resizebox{{\linewidth}}{{!}}{{%
\begin{{tabular}}{{ll{"r" * (len(grid[0]) - 2)}}}
\toprule
{header}
\midrule
{body}
\bottomrule
\end{{tabular}}%
}}
\end{{table}}
"""
