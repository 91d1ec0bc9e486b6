"""Names of labels and files are data: no command takes them for markup, and no terminal obeys them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import draw_image
from sandbox import BACKBONE, Sandbox

from labeldep_cli.cli.show import visible

NAMES = ["dog [young]", "[/off]", "[link=x]a[/link]", ":boat:", "a\x1b[31mred", "b\tb", "\u202egod"]
SHOWN = ["dog [young]", "[/off]", "[link=x]a[/link]", ":boat:", "a\\x1b[31mred", "b\\tb", "\\u202egod"]
HIDDEN = ("\x1b", "\t", "\u202e")


def test_what_a_terminal_would_obey_is_escaped_and_the_rest_stays():
    assert [visible(name) for name in NAMES] == SHOWN
    assert visible("two\nlines 犬🐕‍🦺 é") == "two\nlines 犬🐕‍🦺 é", "line ends, emoji and accents are shown as they are"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a run whose labels and files have names of all these kinds."""
    sandbox = Sandbox(tmp_path_factory.mktemp("names"))
    folder = sandbox.folder / "pets"
    for row in range(40):
        draw_image(folder / f"[b]{row}[/off].png", row)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", *NAMES])
        for row in range(40):
            y = [int((row >> (k % 3)) % 2 == (k > 3)) for k in range(len(NAMES))]
            writer.writerow([f"[b]{row}[/off].png", ("train", "train", "val", "test")[row % 4], *y])
    for words in (("pretrain",), ("adversarial", "--critic", "nce", "--freeze-generator")):
        result = sandbox.run(*words, "--dataset", sandbox.table, *BACKBONE, "--steps", "4")
        assert result.exit_code == 0, result.stderr
    return sandbox


@pytest.mark.parametrize(
    "words",
    [
        ("data", "TABLE"),
        ("eval", "critic"),
        ("dependency", "critic", "--split", "train"),
        ("audit", "critic", "--out", "OUT"),
        ("predict", "IMAGE", "--run", "critic", "--threshold", "0", "--format", "table"),
        ("predict", "IMAGE", "--run", "critic", "--threshold", "0", "--format", "lines"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_every_command_shows_names_as_they_are(trained: Sandbox, tmp_path: Path, words: tuple[str, ...]):
    places = {"TABLE": trained.table, "OUT": tmp_path / "audit", "IMAGE": trained.table.parent / "[b]3[/off].png"}
    result = trained.run(*(places.get(word, word) for word in words))
    assert result.exit_code == 0, result.stderr
    shown = result.stdout + result.stderr
    assert not any(character in shown for character in HIDDEN)
    if words[0] in ("data", "predict"):
        assert all(name in shown for name in SHOWN)
    if words[0] == "predict":
        assert "[/off].png" in shown
