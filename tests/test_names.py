r"""Names are data: labels, files and runs with markup, formulas and control characters in them, in every output.

`NAMES` are labels and `FILES` files, one of each kind. Each output is made by a command, read by a parser that is not
labeldep's, and must give the names back: exactly where a program reads it, with hidden characters escaped where a
person does.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image
from sandbox import BACKBONE, Sandbox, make_table

import labeldep_cli
from labeldep_cli.cli import complete
from labeldep_cli.datasets import csv_file, registry
from labeldep_cli.datasets.canonical import write_table
from labeldep_cli.datasets.cell_text import list_cell, text_cell
from labeldep_cli.datasets.decision_file import append, parse, read
from labeldep_cli.datasets.decisions import Decision, LabelSet
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import LabeldepError, nearest
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.pipelines.init import write_project
from labeldep_cli.progress import SilentReporter
from labeldep_cli.reports import reproduction
from labeldep_cli.reports.figure import Line, figure
from labeldep_cli.reports.pictures import Labelled, contact_sheet
from labeldep_cli.text import WRITE_ANYWAY, visible

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A name, and how it is shown to a person if not as it is."""

    name: str
    shown: str = ""

    @property
    def text(self) -> str:
        return self.shown or self.name


NAMES = {
    "plain": Case("dog [young]"),
    "rich markup, closing": Case("[/off]"),
    "rich markup, a link": Case("[link=https://x]a[/link]"),
    "rich markup, an emoji": Case(":boat:"),
    "HTML, an element": Case("<img src=x onerror=alert(1)>"),
    "HTML, a script": Case("</script><script>alert(1)</script>"),
    "HTML, an attribute": Case("\"' onmouseover=alert(1) x='"),
    "HTML, a character": Case("&lt;b&gt;"),
    "a template": Case("{{ 7 * 7 }}{% raw %}"),
    "TeX, mathematics": Case("$x_1$"),
    "TeX, a command": Case(r"\textbf{b}"),
    "TeX, special signs": Case("50%_a&b#c^d~e"),
    "Markdown": Case("*a* _b_ `c` | d"),
    "a colour": Case("a\x1b[31mred", r"a\x1b[31mred"),
    "a window's title": Case("o\x1b]0;t\x07", r"o\x1b]0;t\x07"),
    "a tabulator": Case("b\tb", r"b\tb"),
    "a carriage return": Case("c\rd", r"c\rd"),
    "a line end": Case("e\nf", r"e\nf"),
    "a line end of Unicode": Case("l\u2028m", r"l\u2028m"),
    "a control character of 8 bits": Case("i\x9b31mj", r"i\x9b31mj"),
    "a deleted character": Case("k\x7f", r"k\x7f"),
    "NUL": Case("n\0o", r"n\x00o"),
    "a change of direction": Case("\u202egod", r"\u202egod"),
    "a formula with =": Case("=1+1"),
    "a formula with +": Case("+cmd|' /C calc'!A0"),
    "a formula with -": Case("-2+3"),
    "a formula with @": Case("@SUM(A1)"),
    "a formula, full-width": Case("\uff20x"),
    "a number": Case("-1"),
    "a shell's signs": Case("$(touch x) `y` a'b"),
    "a separator of lists": Case("a;b"),
    "a separator of cells": Case("a,b"),
    "a comment": Case("# h"),
    "an emoji": Case("犬🐕\u200d🦺"),
    "a combining accent": Case("e\u0301x"),
    "very long": Case("z" * 3000, "z" * 50),
}
"""Labels, one of each kind. Of a very long one, the beginning is shown."""

KINDS = tuple(NAMES)
LABELS = tuple(case.name for case in NAMES.values())

FILES = {
    "plain": Case("0.png"),
    "a formula with =": Case("=1+1.png"),
    "a formula with +": Case("+a.png"),
    "a formula with -": Case("-2.png"),
    "a formula with @": Case("@eaDir.png"),
    "rich markup": Case("[b]1[off].png"),
    "HTML": Case("<img src=x onerror=alert(1)>.png"),
    "a template": Case("{{ 7 }}.png"),
    "quotes": Case("j,k\"l'.png"),
    "a shell's signs": Case("$(t) `u`.png"),
    "a URL's signs": Case("o%20p?q#r.png"),
    "a colour": Case("e\x1b[31m.png", r"e\x1b[31m.png"),
    "a line end": Case("a\nb.png", r"a\nb.png"),
    "a carriage return": Case("c\rd.png", r"c\rd.png"),
    "a tabulator": Case("\tm.png", r"\tm.png"),
    "a line end of Unicode": Case("q\u2028r.png", r"q\u2028r.png"),
    "a change of direction": Case("\u202egnp.png", r"\u202egnp.png"),
    "a blank": Case(" f.png"),
    "a separator of lists": Case("g;h.png"),
    "an emoji": Case("犬🐕\u200d🦺.png"),
    "not UTF-8": Case(os.fsdecode(b"n\xff.png")),
    "not UTF-8, and a control character": Case(os.fsdecode(b"n\x9b.png"), r"n\udc9b.png"),
}

NO_TABLE = {"a line end", "a carriage return", "not UTF-8", "not UTF-8, and a control character"}
"""Files that no line of a table can name."""

FORMULA = re.compile(r"[=+\-@\t\r\uff20]")
HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def cells(text: str) -> list[dict[str, str]]:
    """The rows of a CSV by Python's own reader, none of which a spreadsheet would compute."""
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows
    for row in rows:
        for cell in row.values():
            if FORMULA.match(cell):
                float(cell)
    return rows


def listed(cell: str) -> list[str]:
    """The names of a cell: a JSON list, or names between `;`."""
    return json.loads(cell) if cell.startswith("[") else cell.split(";")


class Page(HTMLParser):
    """A page's texts by element, its tags with their attributes, and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("id"), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside != "style":
            self.texts.append(data)

    def require_harmless(self, n_scripts: int) -> None:
        """Require that nothing in the page came from a name: no script, no handler, no address."""
        assert len(self.scripts) == n_scripts
        for tag, attributes in self.tags:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert (attributes.get("src") or "data:").startswith("data:")
            assert (attributes.get("href") or "data:").startswith(("data:", "#"))

    def data(self, script: str) -> dict[str, object]:
        return json.loads(dict(self.scripts)[script])


class Made:
    """A workspace with a run whose labels are `NAMES`, and what the commands make of it, each once."""

    def __init__(self, folder: Path) -> None:
        self.sandbox = Sandbox(folder)
        self.folder = folder
        self.table = self.sandbox.table
        for row in range(40):
            draw_image(folder / "pets" / f"{row}.png", row)
        with self.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "split", "labels_json"])
            for row in range(40):
                names = [name for k, name in enumerate(LABELS) if (row >> (k % 3)) % 2 == (k > 3)]
                writer.writerow([f"{row}.png", ("train", "train", "val", "test", "train")[row // 8], json.dumps(names)])
        self._found: dict[str, object] = {}
        for words in (("pretrain",), ("adversarial", "--critic", "nce", "--freeze-generator")):
            self.run(*words, "--dataset", self.table, *BACKBONE, "--steps", "4")

    def once(self, output: str, read_from: Callable[[Made], Any]) -> Any:
        """What an output has, read the first time that it is asked for."""
        if output not in self._found:
            self._found[output] = read_from(self)
        return self._found[output]

    def run(self, *words: object) -> str:
        result = self.sandbox.run(*words)
        assert result.exit_code == 0, (result.stderr, result.exception)
        assert not HIDDEN.search(result.stdout + result.stderr), (
            "no terminal obeys a name, and no line is broken by one"
        )
        return result.stdout

    def predict(self, form: str) -> Path:
        """The label sets of an image with all labels."""
        out = self.folder / f"predicted.{form}"
        if not out.exists():
            image = self.folder / "pets" / "3.png"
            self.run("predict", image, "--run", "critic", "--threshold", "0", "--format", form, "--out", out)
        return out

    @cached_property
    def audit(self) -> Path:
        self.run("audit", "critic", "--out", self.folder / "audit")
        return self.folder / "audit"

    @cached_property
    def audit_page(self) -> Page:
        return Page((self.audit / "audit.html").read_text())

    @cached_property
    def report(self) -> Page:
        self.run("report", "critic", "pretrain", "--out", self.folder / "report.html")
        return Page((self.folder / "report.html").read_text())

    @cached_property
    def imported(self) -> Path:
        out = self.table.parent / "again.csv"
        self.run("import", self.table, "--out", out)
        return out

    @cached_property
    def taken(self) -> Path:
        """The decisions of a file that are taken over: on one image each label is switched on."""
        own = self.folder / "own"
        shutil.copytree(self.table.parent, own)
        row = cells(self.table.read_text())[0]
        labels = tuple(json.loads(row["labels_json"]))
        time = "2026-11-29T17:20:03Z"
        told = Decision(time, "=ada", "labels.csv", "0.png", "edit", LabelSet(labels), LabelSet(LABELS))
        append(self.folder / "decisions.csv", [told])
        self.run("review", own / "labels.csv", "--take", self.folder / "decisions.csv")
        return own / "corrections.csv"

    def sidecar(self) -> dict[str, object]:
        image = self.folder / "beside" / "3.png"
        if not image.exists():
            image.parent.mkdir()
            shutil.copy(self.folder / "pets" / "3.png", image)
            self.run("predict", image, "--run", "critic", "--threshold", "0", "--sidecars")
        return json.loads(Path(f"{image}.labels.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("names"))


# What a person reads


def test_what_a_terminal_would_obey_is_escaped_and_the_rest_stays() -> None:
    for kind in set(KINDS) - {"very long"}:
        assert visible(NAMES[kind].name) == NAMES[kind].text
    assert visible("two\nlines 犬🐕\u200d🦺 é", lines=True) == "two\nlines 犬🐕\u200d🦺 é"
    assert visible("\udcff\udc9b\ud800", file_bytes=True) == "\udcff\\udc9b\\ud800"


SHOWN: dict[str, Callable[[Made], str]] = {
    "lines": lambda made: made.predict("lines").read_text(),
    "table": lambda made: re.sub(r" +\n +", "", made.predict("table").read_text()),
    "data": lambda made: made.run("data", made.table),
    "report.html": lambda made: "\n".join(made.report.texts),
    "script of report.html": lambda made: "\n".join(made.report.data("report-data")["space"]),
    "pairs of report.html": lambda made: "\n".join(made.report.data("report-data")["pairing"]["names"]),
}


@pytest.mark.parametrize("output", SHOWN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_person_reads_the_name(made: Made, kind: str, output: str) -> None:
    if output == "data" and kind not in SHOWN_BY_DATA:
        pytest.skip("data names the first labels only")
    text = made.once(output, SHOWN[output])
    assert not HIDDEN.search(text)
    if output == "table":  # a long cell is folded
        assert re.sub(r"\s", "", NAMES[kind].text) in re.sub(r"\s", "", text)
    else:
        assert NAMES[kind].text in text


SHOWN_BY_DATA = {kind for kind in KINDS if NAMES[kind].name in sorted(LABELS)[:20]}


def test_a_long_name_leaves_the_numbers_of_a_table(made: Made) -> None:
    lines = made.run("data", made.table).splitlines()
    assert next(line for line in lines if "images on disk" in line).split()[-3:] == ["24", "8", "8"]


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "critic"),
        ("eval", "critic", "--decision", "all"),
        ("compare", "critic", "pretrain"),
        ("dependency", "critic", "--split", "train"),
        ("audit", "critic", "--out", "OUT"),
        ("runs",),
        ("features",),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_no_command_obeys_a_name(made: Made, tmp_path: Path, words: tuple[str, ...]) -> None:
    made.run(*(tmp_path / "audit" if word == "OUT" else word for word in words))


WRONG = {
    "a file": ("data", "--", "NAME.csv"),
    "a run": ("eval", "--", "NAME"),
    "an option": ("data", "coco", "--NAME"),
    "a choice": ("predict", "x.png", "--format", "NAME"),
    "a command": ("--", "NAME"),
}
"""Commands that name it wrongly."""


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"very long", "NUL", "a formula with -", "a number"}))
def test_errors_show_the_name_and_obey_none(made: Made, kind: str, what: str) -> None:
    words = [word.replace("NAME", NAMES[kind].name) for word in WRONG[what]]
    result = made.sandbox.run(*words)
    assert result.exit_code in (1, 2), result.exception
    assert not HIDDEN.search(result.stderr)
    # Without the frame of the box, and the quotes and escapes of repr.
    told = re.sub(r"[\s│'\"\\]+", "", result.stderr)
    names = (NAMES[kind].text, repr(NAMES[kind].name), NAMES[kind].text.replace("//", "/"))
    assert what == "an option" or any(re.sub(r"[\s'\"\\]+", "", name) in told for name in names)


def test_a_remedy_stays_as_many_lines() -> None:
    assert nearest("x", ["a\nlabeldep fake", "\x1b[31mb"]) == r"Known: a\nlabeldep fake, \x1b[31mb"


def test_what_is_pasted_is_one_word(made: Made) -> None:
    folder = made.folder / "it's [a] $(touch x)"
    result = made.sandbox.run("import", made.table, "--out", folder / "labels.csv")
    assert result.exit_code in (0, 1)
    result = made.sandbox.run("eval", "--runs-dir", folder)
    command = next(line for line in result.stderr.splitlines() if "--dataset" in line)
    assert "DATASET" in command
    table = folder / "labels.csv"
    project = folder / "labeldep.toml"
    folder.mkdir(exist_ok=True)
    write_project(project, {"dataset": str(table)})
    result = made.sandbox.run("--project", project, "eval", "--runs-dir", folder / "none")
    line = next(line for line in result.stderr.splitlines() if "Train one: " in line)
    assert str(table) in shlex.split(line.partition("Train one: ")[2].partition(" (or")[0])


# A terminal


def in_terminal(made: Made, *words: object) -> str:
    """What a command writes on a terminal, without what rich itself writes there: colours and moves of the cursor."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    main, worker = pty.openpty()
    command = [sys.executable, "-m", "labeldep_cli", *map(str, words)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "TERM": "xterm",
        "LABELDEP_DATA": str(made.folder / "data"),
        "LABELDEP_RUNS": str(made.folder / "runs"),
    }
    process = subprocess.Popen(command, stdout=worker, stderr=worker, env=environment)
    os.close(worker)
    seen = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            more = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        seen += more
    process.kill()
    process.wait()
    os.close(main)
    return re.sub(r"\x1b\[[\d;?]*[mAKhl]", "", seen.decode(errors="surrogateescape")).replace("\r", "")


@pytest.mark.parametrize("form", ["table", "lines", "csv", "jsonl", "coco"])
def test_no_format_reaches_the_terminal_with_control_characters(made: Made, form: str) -> None:
    image = made.folder / "terminal" / "\x1b]0;t\x07.png"
    image.parent.mkdir(exist_ok=True)
    if not image.exists():
        draw_image(image, 1)
    seen = in_terminal(made, "predict", image, "--run", "critic", "--threshold", "0", "--format", form)
    assert "next: labeldep export" in seen or form not in ("table", "lines", "csv")
    assert not HIDDEN.search(seen), ascii(seen)
    assert "a\\x1b[31mred" in seen.replace("\\u001b", "\\x1b").replace("\\\\", "\\") or form == "table"


def test_the_live_view_shows_the_runs_name(made: Made) -> None:
    run = made.folder / "live" / "[b]\x1b]0;t\x07\x1b[5;31m[/off]"
    seen = in_terminal(made, "pretrain", "--dataset", made.table, *BACKBONE, "--steps", "200", "--out", run)
    assert (run / "best.safetensors").is_file(), seen
    assert not HIDDEN.search(seen), ascii(HIDDEN.findall(seen))
    assert r"[b]\x1b]0;t\x07" in seen


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_names_are_written_in_any_encoding(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=WRITE_ANYWAY)
    stream.write(json.dumps(["犬🐕", "\ud800"], ensure_ascii=False) + "\udcff")
    stream.flush()
    written = stream.buffer.getvalue()
    assert written.endswith(b"\xff")
    assert json.loads(written[:-1].decode(encoding)) == ["犬🐕", "\ud800"]


# HTML


@pytest.mark.parametrize(("page", "n_scripts"), [("report", 2), ("audit_page", 2)])
def test_nothing_in_a_page_comes_from_a_name(made: Made, page: str, n_scripts: int) -> None:
    getattr(made, page).require_harmless(n_scripts)


def test_a_figure_writes_text_as_it_is() -> None:
    lines = [Line(0, "A", [0, 1], [0, 1]), Line(1, "B", [0, 1], [1, 0])]
    for case in (NAMES[kind] for kind in KINDS if kind != "very long"):
        drawn = figure(f'"><x {case.name}', case.name, case.name, case.name, case.name, lines)
        tree = ElementTree.fromstring(str(drawn))
        texts = [element.text for element in tree.iter() if element.tag.endswith("text")]
        assert texts.count(case.text) == 3, (case.name, texts)
        assert {element.tag.rpartition("}")[2] for element in tree.iter()} <= {
            "svg", "defs", "g", "path", "use", "text", "clipPath", "rect", "style"
        }  # fmt: skip
        assert tree.get("aria-label") == f"{case.text}. {case.text}"


# CSV


CSV: dict[str, Callable[[Made], set[str]]] = {
    "predict --out": lambda made: set(listed(cells(made.predict("csv").read_text())[0]["labels"])),
    "import --out": lambda made: {
        name for row in cells(made.imported.read_text()) for name in listed(row["labels_json"])
    },
    "corrections.csv": lambda made: set(listed(cells(made.taken.read_text())[0]["after"])),
    "other labels in audit.csv": lambda made: {
        name
        for row in cells((made.audit / "audit.csv").read_text())
        for name in [
            *listed(row["other_labels"]),
            json.loads(f"[{row['label']}]")[0] if row["label"][0] == '"' else row["label"],
        ]
    },
}


@pytest.mark.parametrize("output", CSV)
@pytest.mark.parametrize("kind", KINDS)
def test_csv_gives_the_name_back(made: Made, kind: str, output: str) -> None:
    assert NAMES[kind].name in made.once(output, CSV[output])


def test_tables_and_decisions_are_read_back_exactly(made: Made) -> None:
    assert set(made.sandbox.json("data", made.imported)["splits"]["train"]["label_counts"]) == set(LABELS)
    (decision,) = read(made.taken)
    assert decision.after.present == tuple(sorted(LABELS, key=decision.after.present.index))
    assert decision.who == "=ada"
    assert made.sandbox.json("data", made.taken.parent / "labels.csv")["corrections"]["decided"] == 1


def test_a_page_writes_decisions_that_are_read_back_exactly(tmp_path: Path) -> None:
    """The script of the page, in Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    scripts = Path(labeldep_cli.__file__).parent / "reports" / "templates"
    code = "".join((scripts / name).read_text(encoding="utf-8") for name in ("review-base.js", "review-file.js"))
    files = [case.name for kind, case in FILES.items() if kind not in NO_TABLE]
    every = {"present": [*range(len(LABELS))], "unknown": []}
    made = {"kind": "edit", "before": {"present": [], "unknown": []}, "after": every, "time": "t", "who": "+ada"}
    data = {"table": "=t.csv", "labels": LABELS, "cards": [{"path": path} for path in files]}
    decisions = [{**made, "number": number} for number in range(len(files))]
    told = "process.stdin.on('data', (text) => {{ all += text; }}).on('end', () => {{ {} }})"
    script = f"{code}; let all = ''; " + told.format(
        "const {data, decisions} = JSON.parse(all);"
        "process.stdout.write(JSON.stringify([decisionFile(data, decisions), data.labels.map(within)]));"
    )
    ran = subprocess.run(
        [node, "-e", script], input=json.dumps({"data": data, "decisions": decisions}), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    text, shown = json.loads(ran.stdout)
    cells(text)
    assert not HIDDEN.search("".join(shown))
    found = parse(text.encode(), Path("decisions.csv"))
    assert [decision.path for decision in found] == files
    assert {(decision.after.present, decision.who, decision.table) for decision in found} == {
        (LABELS, "+ada", "=t.csv")
    }


def test_groups_are_read_back_exactly(tmp_path: Path) -> None:
    groups = ["=1", "@g", "-2", '"q"', '"=1"', "a\rb", "p-1"]
    labels = np.array([[k % 2, 1 - k % 2] for k in range(len(groups))], np.int8)
    paths = [f"{k}.png" for k in range(len(groups))]
    write_table(Rows(paths, labels, ["a", "b"], None, groups=groups), tmp_path / "labels.csv")
    assert [row["group"] for row in cells((tmp_path / "labels.csv").read_text())][:3] == ['"=1"', '"@g"', "-2"]
    assert csv_file.read(tmp_path / "labels.csv").groups == groups


@pytest.mark.parametrize("number", ["-1", "+1.5", "-3e-5", ".5", "-0"])
def test_numbers_stay_numbers(number: str) -> None:
    assert text_cell(number) == list_cell([number]) == number


# JSON


JSON: dict[str, Callable[[Made], set[str]]] = {
    "data --json": lambda made: set(made.sandbox.json("data", made.table)["splits"]["train"]["label_counts"]),
    "eval --json": lambda made: {row["label"] for row in made.sandbox.json("eval", "critic")["per_label"]},
    "predict --json": lambda made: {
        found["label"] for found in json.loads(made.predict("jsonl").read_text())["labels"]
    },
    "sidecar": lambda made: {found["label"] for found in made.sidecar()["labels"]},
    "coco": lambda made: {row["name"] for row in json.loads(made.predict("coco").read_text())["categories"]},
    "fiftyone": lambda made: set(json.loads(made.predict("fiftyone").read_text())["classes"]),
    "label-studio": lambda made: set(
        json.loads(made.predict("label-studio").read_text())[0]["predictions"][0]["result"][0]["value"]["choices"]
    ),
    "audit.json": lambda made: set(json.loads((made.audit / "audit.json").read_text())["labels"]),
    "script of audit.html": lambda made: set(made.audit_page.data("review-data")["labels"]),
    "export": lambda made: set(exported(made)["labels"]),
}


def exported(made: Made) -> dict[str, object]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    file = made.folder / "run.onnx"
    if not file.exists():
        made.run("export", "critic", "--out", file)
    (facts,) = (entry.value for entry in onnx.load(file).metadata_props if entry.value.startswith("{"))
    return json.loads(facts)


@pytest.mark.parametrize("output", JSON)
@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_the_name_back(made: Made, kind: str, output: str) -> None:
    assert NAMES[kind].name in made.once(output, JSON[output])


def test_json_is_one_line_for_every_program(made: Made) -> None:
    text = made.predict("jsonl").read_text()
    assert len(text.splitlines()) == 1
    assert not HIDDEN.search(text)


# Markdown and TeX


def record_with(name: str) -> dict[str, object]:
    """A table's record in which everything that may be a user's name is one."""
    scores = {"CF1": {"mean": 50.0, "spread": None}}
    gain = {score: {"difference": 1.0, "spread": None, "low": 0.0, "high": 2.0} for score in reproduction._GAINS}
    return {
        "table": 1,
        "dataset": name,
        "split": "test",
        "seeds": [0],
        "n_images": 3,
        "n_labels": 2,
        "true_labels_per_image": 1.0,
        "level": 95.0,
        "columns": ["CF1"],
        "rows": [{"row": name, "decision": {"rule": "own", "source": "own posterior"}, "scores": scores, "paper": {}}],
        "gain": [{"gain": name, "decision": "p > 0.5", "beside_decision": name, **gain}],
        "left_out": [{"row": name, "reason": name}],
        "protocol": {
            "full": False,
            "versions": {name: "1"},
            "ids_sha256": "0" * 64,
            "split_seed": 0,
            "labels_sha256": "0" * 64,
            "ap": "step",
        },
    }


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_gives_the_name_back(kind: str) -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    case = NAMES[kind]
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(reproduction.markdown(record_with(case.name)))
    inline = [token for token in tokens if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, "no link, no code, no HTML, no emphasis"
    texts = ["".join(child.content for child in token.children) for token in inline]
    assert texts.count(case.text if kind != "very long" else case.name) == 2, "the first cell of either table"
    assert sum(token.type == "table_open" for token in tokens) == 2


SPECIAL = re.compile(r"\\(?:textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]|\$(?:\\pm|[<>|-])\$|\{\}")
MEANT = {"\\textbackslash{}": "\\", "\\textasciitilde{}": "~", "\\textasciicircum{}": "^", "$\\pm$": "±", "{}": ""}


def meant(source: str) -> str:
    """The text that a LaTeX source sets, by its commands for special signs."""
    return SPECIAL.sub(
        lambda found: MEANT.get(found[0], found[0].strip("$") if len(found[0]) == 3 else found[0][1:]), source
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tex_gives_the_name_back(kind: str) -> None:
    case = NAMES[kind]
    source = reproduction.latex(record_with(case.name))
    assert not HIDDEN.search(source), "TeX refuses control characters"
    first = source.partition("\\midrule\n")[2].partition(" & ")[0]
    assert meant(first) == (case.name if kind == "very long" else case.text)
    assert not first.startswith(("[", "*")), "it would be the option of the line before"
    left = SPECIAL.sub("", first)
    assert not re.search(r"[&%$#_{}~^\\]", left), left
    body = source.partition("\\begin{tabular}")[2].partition("\\end{tabular}")[0]
    assert len({line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")}) == 1


# TOML, pictures, completion


@pytest.mark.parametrize("kind", KINDS)
def test_the_project_file_gives_the_name_back(tmp_path: Path, kind: str) -> None:
    name = f"/{NAMES[kind].name}"
    write_project(tmp_path / "labeldep.toml", {"dataset": name, "backbone": NAMES[kind].name})
    read_back = tomllib.loads((tmp_path / "labeldep.toml").read_text(encoding="utf-8"))["defaults"]
    assert (read_back["dataset"], read_back["backbone"]) == (name, NAMES[kind].name)


def test_the_project_file_cannot_have_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(LabeldepError, match=r"is not UTF-8, and TOML cannot name it\nRename it"):
        write_project(tmp_path / "labeldep.toml", {"dataset": "/caf\udce9.csv"})


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_with_the_name(tmp_path: Path, kind: str) -> None:
    name = NAMES[kind].name
    photo = draw_image(tmp_path / "a.png", 0)
    contact_sheet([Labelled(photo, (name,), ((name, (name, "x")),))], USUAL_RULES, [name], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * (360 + 18) + 18


def test_annotated_copies_with_all_names(made: Made, tmp_path: Path) -> None:
    begin = time.monotonic()
    photo = made.folder / "pets" / "3.png"
    made.run("predict", photo, "--run", "critic", "--threshold", "0", "--annotate", tmp_path / "copies")
    with Image.open(tmp_path / "copies" / "3.png") as copy:
        assert copy.height > 32 + len(LABELS)
    assert time.monotonic() - begin < 60


def test_completion_offers_words_that_need_no_quotes() -> None:
    words = ["pets-1a2b-resnet50-pretrain", "kept/犬.1", "timm:a", "hf-hub:a/b", "@newest"]
    assert complete._beginning(words, "") == words
    offered = complete._beginning(LABELS, "")
    assert offered == [name for name in LABELS if name in (":boat:", "a,b", "z" * 3000)]


# Files


@pytest.fixture(scope="module")
def photos(made: Made) -> Path:
    """A folder with `FILES`."""
    folder = made.folder / "photos"
    for number, case in enumerate(FILES.values()):
        os.replace(draw_image(folder / "drawn.png", number), folder / case.name)  # noqa: PTH105 - Pillow asks for UTF-8
    return folder


FORMS: dict[str, Callable[[str], set[str]]] = {
    "csv": lambda text: {row["path"] for row in cells(text)},
    "jsonl": lambda text: {json.loads(line)["path"] for line in text.split("\n") if line},
    "coco": lambda text: {row["file_name"] for row in json.loads(text)["images"]},
    "fiftyone": lambda text: {Path(path).name for path in json.loads(text)["labels"]},
}


@pytest.fixture(scope="module")
def found(made: Made, photos: Path) -> dict[str, set[str]]:
    """The paths that each format of `predict` gives, from the folder of the photos."""
    here = Path.cwd()
    os.chdir(photos)
    try:
        paths = {}
        for form in FORMS:
            out = made.folder / f"files.{form}" if form != "coco" else photos / "files.coco"
            names = sorted(case.name for case in FILES.values())
            result = made.sandbox.run("predict", "--run", "critic", "--format", form, "--out", out, "--", *names)
            assert result.exit_code == 0, result.stderr
            with out.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                paths[form] = FORMS[form](file.read())
        return paths
    finally:
        os.chdir(here)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", FILES)
def test_the_file_is_found_by_the_path(found: dict[str, set[str]], photos: Path, kind: str, form: str) -> None:
    name = FILES[kind].name
    if form == "csv":
        (path,) = (path for path in found[form] if (photos / path).name == name)
        assert (photos / path).is_file()
    else:
        assert name in found[form]


@pytest.mark.parametrize("form", ["lines", "table"])
def test_files_are_shown_one_a_line(made: Made, photos: Path, form: str) -> None:
    text = made.run("predict", photos, "--run", "critic", "--format", form)
    for case in FILES.values():
        shown = os.fsencode(case.text).decode(errors="replace")
        assert any(shown in line or shown.strip() in line for line in text.splitlines()), case


def test_a_table_of_such_files_is_read_back(made: Made, photos: Path) -> None:
    folder = made.folder / "imported"
    usable = {kind: case.name for kind, case in FILES.items() if kind not in NO_TABLE}
    for label, name in zip(itertools.cycle(["=1+1", "@b"]), usable.values(), strict=False):
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, folder / label / name)
        shutil.copy(photos / name, folder / name)
    made.run("import", folder, "--out", folder / "labels.csv")
    written = {row["path"]: row["labels_json"] for row in cells((folder / "labels.csv").read_text())}
    assert all((folder / path).is_file() for path in written)
    dataset = registry.load(str(folder / "labels.csv"), made.folder, Draw(0.05, 0.25, 0), SilentReporter())
    paths = {path for split in dataset.splits.values() for path in split.paths}
    assert {Path(path).name for path in paths} >= set(usable.values())
    assert not [path for path in paths if path.startswith("./")], "the names are exact again"


@pytest.mark.parametrize("kind", sorted(NO_TABLE))
def test_a_table_that_could_not_name_the_file_is_not_written(
    made: Made, photos: Path, tmp_path: Path, kind: str
) -> None:
    for label in "ab":
        (tmp_path / "f" / label).mkdir(parents=True)
        draw_image(tmp_path / "f" / label / "0.png", ord(label))
    shutil.copy(photos / FILES[kind].name, tmp_path / "f" / "a" / FILES[kind].name)
    result = made.sandbox.run("import", tmp_path / "f", "--out", tmp_path / "labels.csv")
    assert result.exit_code == 1
    assert "cannot be in a table: it " in result.stderr
    assert "Rename the file" in result.stderr
    assert not (tmp_path / "labels.csv").exists()


def test_everything_works_in_a_folder_that_is_not_utf_8(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 [/x] =1")
    make_table(folder, rows=30)
    run = folder / "run\x1b[31m\nx"
    made.sandbox.run("pretrain", "--dataset", folder / "labels.csv", *BACKBONE, "--steps", "2", "--out", run)
    for words in (("eval", run), ("report", run, "--out", folder / "r.html"), ("dependency", run)):
        result = made.sandbox.run(*words)
        assert result.exit_code == 0, result.stderr
        assert not HIDDEN.search(result.stdout + result.stderr)
    page = Page((folder / "r.html").read_text(encoding="utf-8"))
    assert any(r"run\x1b[31m\nx" in text for text in page.texts)
    assert made.sandbox.json("eval", run)["run"] == str(run)


def test_the_kinds_are_what_they_say() -> None:
    """Each case with an escaped form has a hidden character, and no other has one."""
    for case in (*NAMES.values(), *FILES.values()):
        hidden = any(unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in "\u202e" for c in case.name)
        assert hidden == ("\\" in case.shown) or "\udc9b" in case.name, case
