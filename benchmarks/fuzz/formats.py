"""The files that are changed, and the command that reads each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.fuzz import mutants
from benchmarks.fuzz.workshop import AUDIT, FEATURES, REPRODUCE, SAVED, TRAIN, TUNE


@dataclass(frozen=True)
class Format:
    """A file of the workshop, and what reads it.

    Attributes:
        name: FILE -> COMMAND.
        file: its path in the workshop; a pattern, of which the last file by name is taken.
        command: the command line that reads it.
        mutate: how its content is changed.
        shows: whether the command prints the file's values: then another output than the unharmed file's is right.
        stdin: whether the command reads the file from stdin.
        slow: whether the command computes for a second or more; it gets a tenth of the mutants.
    """

    name: str
    file: str
    command: str
    mutate: mutants.Mutator
    shows: bool = False
    stdin: bool = False
    slow: bool = False


STORE = "data/features/scenesnet-*"
FORMS = (
    ("coco.json", mutants.changed_json),
    ("label_studio.json", mutants.changed_json),
    ("labels.json", mutants.changed_json),
    ("records.json", mutants.changed_json),
    ("records.jsonl", mutants.changed_lines),
    ("list_attr.txt", mutants.changed_text),
    ("long.csv", mutants.changed_text),
    ("listed.csv", mutants.changed_text),
    ("annotations.xml", mutants.changed_text),
    ("voc/Annotations/0.xml", mutants.changed_text),
    ("rows.parquet", mutants.changed_bytes),
)
"""Labels as other programs write them, which `import` reads."""


def _own() -> tuple[Format, ...]:
    """Files that labeldep writes and reads back."""
    rerank = "eval critic --decision rerank --json"
    return (
        Format("config.json -> eval", "runs/base/config.json", "eval base --json", mutants.changed_json),
        Format("config.json -> runs", "runs/base/config.json", "runs --json", mutants.changed_json, shows=True),
        Format("config.json -> --config", "config.json", f"{TRAIN}/base --config config.json", mutants.changed_json),
        Format("result.json -> the same training", "runs/base/result.json", f"{TRAIN}/base", mutants.changed_json),
        Format("metrics.jsonl -> runs", "runs/base/metrics.jsonl", "runs --json", mutants.changed_lines, shows=True),
        Format(
            "metrics.jsonl -> report",
            "runs/base/metrics.jsonl",
            "report base --json",
            mutants.changed_lines,
            True,
            slow=True,
        ),
        Format("best.safetensors -> eval", "runs/base/best.safetensors", "eval base --json", mutants.changed_head),
        Format("a critic's best.safetensors", "runs/critic/best.safetensors", rerank, mutants.changed_head),
        Format(
            "a powerset head's best.safetensors",
            "runs/powerset/best.safetensors",
            "eval powerset --decision rerank --json",
            mutants.changed_head,
        ),
        Format("last.safetensors -> runs", "runs/base/last.safetensors", "runs --json", mutants.changed_head, True),
        Format("last.safetensors -> training", "runs/cut/last.safetensors", f"{TRAIN}/cut", mutants.changed_head),
        Format("rows.safetensors -> eval", "runs/base/rows.safetensors", "eval base --json", mutants.changed_head),
        Format("feature store -> eval", f"{STORE}/test-*.h5", "eval photos --json", mutants.changed_bytes),
        Format("kind.json -> eval", f"{STORE}/kind.json", "eval photos --json", mutants.changed_json),
        Format("weights.json -> eval", f"{STORE}/weights.json", "eval photos --json", mutants.changed_json),
        Format("known-files.sqlite -> eval", "data/features/*.sqlite", "eval photos --json", mutants.changed_bytes),
        Format("audit.json -> audit", "audit/audit.json", AUDIT, mutants.changed_json, slow=True),
        Format(
            "audit.json -> review",
            "audit/audit.json",
            "review audit --take audited.csv --json",
            mutants.changed_json,
            True,
        ),
        Format("origin.json -> audit", "audit/runs/origin.json", AUDIT, mutants.changed_json, slow=True),
        Format(
            "corrections.csv -> data",
            "photos/corrections.csv",
            "data photos/labels.csv --json",
            mutants.changed_text,
            True,
        ),
        Format(
            "saved decisions -> review",
            "saved.csv",
            "review photos/labels.csv --take saved.csv --json",
            mutants.changed_text,
            True,
        ),
        Format("reproduce.json -> reproduce", "tables/reproduce.json", REPRODUCE, mutants.changed_json, slow=True),
        Format("tune.json -> tune", "runs/tune-*/tune.json", TUNE, mutants.changed_json, True),
        Format("labeldep.toml -> data", "labeldep.toml", f"data {FEATURES} --json", mutants.changed_text, True),
    )


def _of_others() -> tuple[Format, ...]:
    """Files that users bring. What a command understands of a changed file shows in its output."""
    run = "--run photos --device cpu --json"
    return (
        Format("labels.csv -> data", "photos/labels.csv", "data photos/labels.csv --json", mutants.changed_text, True),
        Format("own.jsonl -> data", "forms/own.jsonl", "data forms/own.jsonl --json", mutants.changed_lines, True),
        Format("coco.json -> data", "forms/coco.json", "data forms/coco.json --json", mutants.changed_json, True),
        Format("features.npz -> data", FEATURES, f"data {FEATURES} --json", mutants.changed_bytes, True),
        Format("features.h5 -> data", "rows.h5", "data rows.h5 --json", mutants.changed_bytes, True),
        Format(
            "shard.tar -> data", "forms/shard-000.tar", "data forms/shard-000.tar --json", mutants.changed_bytes, True
        ),
        *(
            Format(
                f"{file} -> import", f"forms/{file}", f"import forms/{_source(file)} --out t.csv --json", mutate, True
            )
            for file, mutate in FORMS
        ),
        *(
            Format(f"{name} -> predict", f"images/{name}", f"predict images/{name} {run}", mutants.changed_bytes, True)
            for name in (*(f"a.{suffix}" for suffix in SAVED), "deep.png")
        ),
        Format(
            "requests -> predict --stdin-json",
            "requests.jsonl",
            "predict --stdin-json --run photos --device cpu",
            mutants.changed_lines,
            True,
            stdin=True,
        ),
        Format(
            "weights.pth -> extract",
            "weights.pth",
            "extract --dataset photos/labels.csv --backbone scenesnet --weights weights.pth --workers 0 --json",
            mutants.changed_bytes,
            True,
        ),
    )


def _source(file: str) -> str:
    """What of a form is imported, with the flags that it needs."""
    return {
        "voc/Annotations/0.xml": "voc --images-dir forms",
        "labels.json": "labels.json --suffix .jpg",
        "listed.csv": "listed.csv --label-separator |",
    }.get(file, file)


FORMATS = (*_own(), *_of_others())
