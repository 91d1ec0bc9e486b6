"""`labeldep review`: the session and its file, who may talk to the server, and what comes back from an audit's page."""

from __future__ import annotations

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image
from sandbox import LABELS, Sandbox, make_table
from serving import serving

from labeldep_cli.config import Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.corrections import Place
from labeldep_cli.datasets.decision_file import append, read
from labeldep_cli.datasets.decisions import Decision, LabelSet
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError, StorageError
from labeldep_cli.evaluation.mistakes import Estimate
from labeldep_cli.evaluation.suspects import Card, Pair, Suspect
from labeldep_cli.experiments.audit_record import AuditRecord
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.progress import SilentReporter
from labeldep_cli.review import session as sessions
from labeldep_cli.review.server import ReviewServer, _Handler
from labeldep_cli.review.session import Outdated, Session
from labeldep_cli.review.taking import take
from labeldep_cli.review.words import sentences

ROWS = ["img/0.png,train,1,0,0", "img/1.png,train,0,1,-1", "img/2.png,val,1,1,1", "img/3.png,test,0,0,0"]


def suspect(label: str, written: bool, kind: str = "mistake", **changes: object) -> Suspect:
    values = {
        "score": 2.0,
        "probability": 0.03,
        "critic": -1.24,
        "priority": 1.0,
        "image": 1.0,
        "label_ap": 0.8,
        "same_set": 1,
    }
    values |= {"pair": Pair("dog", 3, 120), **changes}
    return Suspect(label, written, kind=kind, **values)


def card(number: int, *suspects: Suspect) -> Card:
    return Card(f"img/{number}.png", "train", (), (), suspects)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four images with the labels cat, dog and mat."""
    folder = tmp_path / "pets"
    for row in range(len(ROWS)):
        draw_image(folder / "img" / f"{row}.png", row)
    (folder / "labels.csv").write_text("\n".join(["path,split," + ",".join(LABELS), *ROWS]) + "\n")
    return folder / "labels.csv"


def written(table: Path) -> Dataset:
    return registry.load_source(Source(str(table), corrections=False), table.parent, SilentReporter())


def opened(table: Path, *cards: Card, who: str = "ada") -> Session:
    dataset = written(table)
    return Session.of(dataset, Place.of(table), who, cards or None)


def applied(table: Path) -> dict[str, tuple[str, ...]]:
    """The present labels of each image, as commands see them."""
    dataset = registry.load_source(Source(str(table)), table.parent, SilentReporter())
    return {
        path: split.space.decode(split.labels[row])
        for split in dataset.splits.values()
        for row, path in enumerate(split.paths)
    }


def state(present: str, unknown: str = "") -> dict[str, list[int]]:
    """A state as the page sends it, of the letters c, d and m."""
    return {"present": ["cdm".index(k) for k in present], "unknown": ["cdm".index(k) for k in unknown]}


# The session


def test_each_decision_is_on_the_disk_when_it_is_answered(table: Path) -> None:
    session = opened(table, card(0, suspect("dog", False)), card(2, suspect("mat", True)))
    found = session.decide(0, "accept", state("c"), state("cd"))
    assert [one["present"] for one in found["states"]] == [[0], [0, 1]]
    assert applied(table)["img/0.png"] == ("cat", "dog")
    (line,) = read(session.place.file)
    assert (line.who, line.table, line.path, line.decision) == ("ada", "labels.csv", "img/0.png", "accept")
    assert (line.before, line.after) == (LabelSet(("cat",)), LabelSet(("cat", "dog")))
    session.decide(0, "undo", state("cd"), state(""))
    assert applied(table)["img/0.png"] == ("cat",)
    session.decide(1, "skip", state("cdm"), state(""))
    assert applied(table)["img/2.png"] == LABELS
    assert session.made == {"accept": 1, "undo": 1, "skip": 1}
    assert table.read_text().splitlines()[1:] == ROWS, "the table is never written"


def test_it_goes_on_where_it_was_left(table: Path) -> None:
    cards = [card(k, suspect("cat", k in (0, 2))) for k in range(4)]
    session = opened(table, *cards)
    session.decide(0, "reject", state("c"), state("c"))
    session.decide(1, "skip", state("d", "m"), state("d", "m"))
    again = opened(table, *cards)
    assert [one.path for one in again.cards] == [f"img/{k}.png" for k in (2, 3, 1, 0)]
    assert [one.rank for one in again.cards] == [0, 0, 1, 2]
    assert again.n_decided == 1
    assert again.decide(3, "undo", state("c"), state(""))["states"] == [state("c")]


def test_without_an_audit_all_images_are_shown_in_order(table: Path) -> None:
    assert [one.path for one in opened(table).cards] == [f"img/{k}.png" for k in range(4)]
    told = opened(table).to_json()
    assert told["labels"] == list(LABELS)
    assert told["cards"][1] == {"path": "img/1.png", "split": "train", "states": [state("d", "m")]}


def test_an_unknown_label_may_become_known(table: Path) -> None:
    session = opened(table)
    session.decide(1, "edit", state("d", "m"), state("dm"))
    assert applied(table)["img/1.png"] == ("dog", "mat")
    session.decide(1, "edit", state("dm"), state("d", "m"))
    assert applied(table)["img/1.png"] == ("dog",)


def test_what_others_decide_meanwhile_is_seen(table: Path) -> None:
    mine, theirs = opened(table), opened(table, who="bob")
    theirs.decide(0, "edit", state("c"), state("d"))
    with pytest.raises(Outdated):
        mine.decide(0, "edit", state("c"), state("cm"))
    assert mine.card_json(0)["states"][-1]["decision"]["who"] == "bob"
    mine.decide(0, "edit", state("d"), state("m"))
    assert [one.who for one in read(mine.place.file)] == ["bob", "ada"]
    theirs.decide(3, "reject", state(""), state(""))
    assert mine.to_json()["cards"][3]["states"][-1]["decision"]["kind"] == "reject"


def test_a_table_that_was_corrected_by_hand_has_no_suspects_for_it(table: Path) -> None:
    cards = (card(0, suspect("cat", True), suspect("dog", False), suspect("bird", True)), card(9, suspect("cat", True)))
    table.write_text(table.read_text().replace("img/0.png,train,1,0,0", "img/0.png,train,0,0,0"))
    session = opened(table, *cards)
    assert [one.label for one in session.cards[0].suspects] == ["dog"]
    assert session.n_gone == 1


def test_a_correction_in_conflict_waits_for_another_decision(table: Path) -> None:
    session = opened(table)
    session.decide(1, "edit", state("d", "m"), state("dm"))
    table.write_text(table.read_text().replace("img/1.png,train,0,1,-1", "img/1.png,train,0,1,0"))
    again = opened(table)
    assert [one.path for one in again.cards][1] == "img/1.png", "undecided, in its place"
    told = again.card_json(1)
    assert told["conflicts"] == ["mat: absent in the table, but changed from unknown to present"]
    assert "conflicts" not in again.decide(1, "reject", state("d"), state("d"))
    assert opened(table).n_decided == 1


@pytest.mark.parametrize(
    ("number", "kind", "before", "after"),
    [
        (99, "accept", state("c"), state("c")),
        (-1, "accept", state("c"), state("c")),
        (0, "maybe", state("c"), state("c")),
        (0, "edit", state("c"), {"present": [7], "unknown": []}),
        (0, "edit", state("c"), {"present": [-1], "unknown": []}),
        (0, "edit", state("c"), {"present": [True], "unknown": []}),
        (0, "edit", state("c"), {"present": "c", "unknown": []}),
        (0, "edit", state("c"), {"present": [1], "unknown": [1]}),
        (0, "edit", state("c"), {}),
    ],
)
def test_what_is_no_decision_is_not_written(table: Path, number: int, kind: str, before: dict, after: dict) -> None:
    session = opened(table)
    with pytest.raises(ValueError, match=r"no such|no list|and unknown"):
        session.decide(number, kind, before, after)
    assert not session.place.file.exists()


def test_there_is_nothing_to_undo(table: Path) -> None:
    with pytest.raises(Outdated):
        opened(table).decide(0, "undo", state("c"), state("c"))


def test_evidence_in_words() -> None:
    assert sentences(suspect("cat", True)) == [
        "From the image alone, cat is 3 % probable.",
        "With the other labels, the critic finds it less real than its absence (-1.2).",
        "Of 120 images with dog, 3 have cat.",
    ]
    one = suspect("cat", False, "rare combination", probability=0.999, critic=0.01, pair=None, label_ap=0.12)
    assert sentences(one) == [
        "From the image alone, cat is more than 99 % probable.",
        "With the other labels, the critic finds it neither more nor less real than its absence.",
        "The image does not speak against what is written: perhaps the labels are right, and only rare.",
        "The networks hardly see cat (average precision 12 %).",
    ]


# The server


def ask(
    server: ReviewServer, path: str, method: str = "GET", body: object = None, **headers: str | None
) -> tuple[int, bytes]:
    """Send a request as the page does; headers override its own, None leaves one out. `/T` stands for the token."""
    host = f"127.0.0.1:{server.server_port}"
    sent: dict[str, str | None] = {"Host": host}
    if method == "POST":
        sent |= {"Origin": f"http://{host}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest(method, path.replace("/T", f"/{server.token}"), skip_host=True)
    for name, value in {"Content-Length": str(len(content)), **sent}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(content)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


DECISION = {"number": 0, "kind": "accept", "before": state("c"), "after": state("cd")}


def test_the_page_its_cards_and_its_images(table: Path) -> None:
    draw_image(table.parent / "img" / "0.png", 0, (2000, 1000))
    (table.parent / "img" / "1.png").write_bytes(b"no image")
    (table.parent / "img" / "2.png").unlink()
    with serving(opened(table)) as server:
        status, page = ask(server, "/T/")
        assert status == 200 and b"<title>Labels of pets" in page
        status, cards = ask(server, "/T/cards")
        assert status == 200 and len(json.loads(cards)["cards"]) == 4
        status, content = ask(server, "/T/image/0")
        assert status == 200
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size) == ("JPEG", (1200, 600))
        assert ask(server, "/T/image/1") == (404, b"not an image")
        assert ask(server, "/T/image/2") == (404, b"missing file")
        wrong = ("4", "-1", "x", "", "0/..", "..%2f..%2flabels.csv", "%c2%b2", "1" * 9000)
        for path in (*(f"/T/image/{one}" for one in wrong), "/T/no", "/T/../x", "/T//etc/passwd", "/T/cards/"):
            assert ask(server, path)[0] == 404, path


def test_pixels_are_shown_as_the_networks_see_them(table: Path) -> None:
    """12 bits in 16, of the range that the user names: white is white. Without a range there is no such image."""
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(table.parent / "img" / "0.png")
    with serving(opened(table), PixelRules("0,4095")) as server:
        content = ask(server, "/T/image/0")[1]
    with Image.open(io.BytesIO(content)) as image:
        assert np.asarray(image).min() >= 253
    with serving(opened(table)) as server:
        assert ask(server, "/T/image/0") == (404, b"more than 8 bits, and no value range is named")


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/wrong/", "/wrong/cards", "/wrong/image/0", "/T"])
def test_without_the_token_there_is_nothing(table: Path, path: str) -> None:
    with serving(opened(table)) as server:
        assert ask(server, path)[0] == 403
        assert ask(server, f"{path.rstrip('/')}/decide".replace("/T", "/"), "POST", DECISION)[0] == 403
        assert not server.session.place.file.exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", "10.0.0.1:80", "", None]
)
def test_another_host_is_refused(table: Path, host: str | None) -> None:
    """A page of another host whose name leads to this machine (DNS rebinding)."""
    with serving(opened(table)) as server:
        assert ask(server, "/T/cards", Host=host)[0] in (400, 403)
        assert ask(server, "/T/decide", "POST", DECISION, Host=host, Origin=f"http://{host}")[0] in (400, 403)
        assert not server.session.place.file.exists()


def test_the_names_of_this_machine_are_taken_also_behind_a_forwarded_port(table: Path) -> None:
    with serving(opened(table)) as server:
        for number, host in enumerate(("localhost:9000", "127.0.0.1:9000", "[::1]:9000", "localhost")):
            assert ask(server, "/T/cards", Host=host)[0] == 200
            body = {
                "number": number,
                "kind": "skip",
                "before": server.session.card_json(number)["states"][0],
                "after": state(""),
            }
            assert ask(server, "/T/decide", "POST", body, Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Content_Type": "text/plain"},
        {"Content_Type": None},
    ],
)
def test_another_page_may_not_decide(table: Path, headers: dict[str, str | None]) -> None:
    with serving(opened(table)) as server:
        assert ask(server, "/T/decide", "POST", DECISION, **headers)[0] == 403
        assert not server.session.place.file.exists()
        assert ask(server, "/T/decide", "POST", DECISION)[0] == 200


def test_a_decision_that_is_sent_again_is_written_once(table: Path) -> None:
    """The answer was lost. Another decision with the same labels before it is not: that one is outdated."""
    with serving(opened(table)) as server:
        for _ in range(2):
            status, answer = ask(server, "/T/decide", "POST", {**DECISION, "key": "one"})
            assert status == 200 and len(json.loads(answer)["card"]["states"]) == 2
        assert ask(server, "/T/decide", "POST", {**DECISION, "key": "two"})[0] == 409
        assert len(read(server.session.place.file)) == 1
        assert server.session.made["accept"] == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", {}, {**DECISION, "number": "0"}, {**DECISION, "after": None}, {**DECISION, "kind": 1}],
)
def test_what_is_no_decision_is_refused(table: Path, body: object) -> None:
    with serving(opened(table)) as server:
        assert ask(server, "/T/decide", "POST", body)[0] == 400
        assert ask(server, "/T/decide", "POST", b"x", Content_Length="20000000")[0] == 400
        assert ask(server, "/T/decide", "POST", b"[" * 100_000)[0] == 400
        assert not server.session.place.file.exists()


def test_clients_that_say_nothing_are_let_go(
    table: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that sends half a request, and one that sends half a decision; meanwhile others are answered."""
    assert _Handler.timeout is not None
    monkeypatch.setattr(_Handler, "timeout", 0.3)
    with serving(opened(table)) as server:
        host = f"127.0.0.1:{server.server_port}"
        head = f"POST /{server.token}/decide HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        body = "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        clients = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(3)]
        for client, sent in zip(clients, ("", head, head + body), strict=True):
            client.sendall(sent.encode())
        assert ask(server, "/T/cards")[0] == 200
        for client in clients:
            client.settimeout(10)
            assert client.recv(100) == b"", "closed"
            client.close()
    assert capfd.readouterr().err == ""


def test_a_decision_that_comes_too_late_gets_the_card_as_it_is(table: Path) -> None:
    with serving(opened(table)) as server:
        assert ask(server, "/T/decide", "POST", DECISION)[0] == 200
        status, told = ask(server, "/T/decide", "POST", DECISION)
        assert status == 409
        assert json.loads(told)["card"]["states"][-1]["present"] == [0, 1]


def test_a_full_disk_is_told(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, decisions: object) -> int:
        raise StorageError("no space left to write x", "Free some disk.")

    with serving(opened(table)) as server:
        with monkeypatch.context() as patched:
            patched.setattr(sessions, "append", full)
            status, told = ask(server, "/T/decide", "POST", DECISION)
        assert status == 507 and "no space left" in json.loads(told)["error"]
        assert server.session.card_json(0)["states"] == [state("c")], "nothing was decided"
        assert ask(server, "/T/decide", "POST", DECISION)[0] == 200


def test_many_decisions_at_once_are_all_written(table: Path) -> None:
    rows = [f"img/{k}.png,train,{k % 2},0,1" for k in range(40)]
    table.write_text("\n".join(["path,split," + ",".join(LABELS), *rows, "img/x.png,test,0,1,0"]) + "\n")
    with serving(opened(table)) as server:
        answers = []

        def decide(number: int) -> None:
            before = server.session.card_json(number)["states"][0]
            body = {"number": number, "kind": "edit", "before": before, "after": state("d")}
            answers.append(ask(server, "/T/decide", "POST", body)[0])

        threads = [threading.Thread(target=decide, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 40
        assert sorted(one.path for one in read(server.session.place.file)) == sorted(f"img/{k}.png" for k in range(40))


# Decisions that come back as a file


def decided(
    path: str, before: str, after: str, who: str = "bob", kind: str = "edit", table: str = "labels.csv"
) -> Decision:
    names = {"c": "cat", "d": "dog", "m": "mat", "x": "bird"}
    sets = (LabelSet(tuple(names[k] for k in part)) for part in (before, after))
    return Decision("2026-11-29T10:00:00Z", who, table, path, kind, *sets)


def test_decisions_of_a_file_are_checked_and_appended(table: Path) -> None:
    place = Place.of(table)
    append(place.file, [decided("img/2.png", "cdm", "cd", "ada"), decided("img/3.png", "", "c", "ada")])
    theirs = [
        decided("img/0.png", "c", "d", who=""),
        decided("img/1.png", "x", "d"),  # of a label that there is not
        decided("img/2.png", "cdm", "cm"),  # decided otherwise here
        decided("img/3.png", "", "c"),  # decided in the same way
        decided("img/9.png", "c", ""),
        decided("img/0.png", "c", "", table="other.csv"),
    ]
    found = take(written(table), place, theirs, "cleo")
    assert (found.appended, found.known, found.gone, found.elsewhere) == (("img/0.png",), 1, ("img/9.png",), 1)
    assert [(one.path, one.label, one.reason) for one in found.conflicts] == [
        ("img/1.png", "bird", "no label any more"),
        ("img/2.png", "", "decided otherwise by ada, 2026-11-29T10:00:00Z"),
    ]
    assert applied(table)["img/0.png"] == ("dog",)
    assert read(place.file)[-1].who == "cleo"
    again = take(written(table), place, theirs, "cleo")
    assert (again.appended, again.known) == ((), 2), "a file may be taken twice"
    assert len(read(place.file)) == 3


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("reject", "d", "d"), ("edit", "cm", "cdm"), ("accept", "", "d")]
)
def test_a_file_about_other_labels_is_not_taken(table: Path, kind: str, before: str, after: str) -> None:
    """Of another data set with a table and images of the same names; here img/0.png is a cat."""
    found = take(written(table), Place.of(table), [decided("img/0.png", before, after, kind=kind)], "cleo")
    assert (found.appended, [one.path for one in found.conflicts]) == ((), ["img/0.png"])
    assert not Place.of(table).file.exists()


def test_what_was_undone_before_it_was_saved_is_not_taken(table: Path) -> None:
    theirs = [
        decided("img/0.png", "c", "d"),
        decided("img/0.png", "d", "c", kind="undo"),
        decided("img/3.png", "", "", kind="skip"),
    ]
    assert take(written(table), Place.of(table), theirs, "bob").appended == ()
    assert not Place.of(table).file.exists()


def test_take_on_the_command_line(table: Path, tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    append(tmp_path / "theirs.csv", [decided("img/0.png", "c", "d"), decided("img/2.png", "cdm", "cd")])
    append(Place.of(table).file, [decided("img/2.png", "cdm", "cdm", "ada")])
    result = sandbox.run("review", table, "--take", tmp_path / "theirs.csv")
    assert result.exit_code == 0, result.stderr
    assert "1 image decided by the file: written into" in result.stdout
    assert "conflict, left out: img/2.png: decided otherwise by ada" in result.stdout
    found = sandbox.json("review", table, "--take", tmp_path / "theirs.csv")
    assert (found["appended"], found["known"]) == ([], 1)
    append(tmp_path / "elsewhere.csv", [decided("img/0.png", "c", "d", table="other.csv")])
    for file, told in (
        ("elsewhere.csv", "has decisions on other.csv, not on labels.csv"),
        ("no.csv", "there is no file"),
    ):
        result = sandbox.run("review", table, "--take", tmp_path / file)
        assert result.exit_code == 1
        assert told in result.stderr


# The command


def audited(table: Path, folder: Path, *cards: Card) -> None:
    source = Source(str(table), backbone="squeezenet1_1", weights="none")
    folder.mkdir(exist_ok=True)
    AuditRecord(source, table.parent, "pets", LABELS, Estimate(0, 1, 2, 12, 1, 0, 0.9, 0.8, 0), cards, 0, (), ()).write(
        folder
    )


class Command:
    """`labeldep review` in a process of its own; `url` is the address that it printed."""

    def __init__(self, folder: Path, *words: object) -> None:
        line = [sys.executable, "-m", "labeldep_cli", "review", *map(str, words), "--no-browser"]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline()]
        while "http" not in self.lines[-1]:
            self.lines.append(self.process.stdout.readline())
            assert self.lines[-1], self.process.communicate()[1]
        self.url = self.lines[-1].split()[-1]

    def decide(self, **decision: object) -> int:
        host, token = self.url.removeprefix("http://").split("/")[:2]
        connection = http.client.HTTPConnection(host)
        headers = {"Origin": f"http://{host}", "Content-Type": "application/json"}
        connection.request("POST", f"/{token}/decide", json.dumps({**DECISION, **decision}), headers)
        return connection.getresponse().status

    def end(self, number: signal.Signals) -> tuple[str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return out, err


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_with_ctrl_c(table: Path, tmp_path: Path) -> None:
    audited(table, tmp_path / "audit", card(0, suspect("dog", False)), card(2, suspect("mat", True)))
    command = Command(tmp_path, table, "--who", "ada")
    assert "2 images with suspects, 0 of them decided" in command.lines[0]
    assert command.decide() == 200
    command.end(signal.SIGKILL)
    assert applied(table)["img/0.png"] == ("cat", "dog")
    command = Command(tmp_path, "audit", "--who", "ada")
    assert "2 images with suspects, 1 of them decided" in command.lines[0]
    assert command.decide(number=0, kind="reject", before=state("cdm"), after=state("cdm")) == 200
    out, err = command.end(signal.SIGINT)
    assert "1 decision: 1 right as written; 2 of 2 images are decided" in out
    assert "Traceback" not in err
    assert command.process.returncode == 0
    assert [one.path for one in read(Place.of(table).file)] == ["img/0.png", "img/2.png"]


@pytest.mark.slow
def test_all_images_if_the_audit_is_of_another_data_set(table: Path, tmp_path: Path) -> None:
    make_table(tmp_path / "birds", rows=10)
    audited(tmp_path / "birds" / "labels.csv", tmp_path / "audit", card(0, suspect("dog", False)))
    command = Command(tmp_path, table)
    assert "4 images, 0 of them decided" in command.lines[0]
    _, err = command.end(signal.SIGTERM)
    assert "is an audit of" in err
    assert command.process.returncode == 0


def test_errors(table: Path, tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    audited(table, tmp_path / "found", card(0, suspect("dog", False)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "audit.json").write_text("{")
    with serving(opened(table)) as server:
        in_use = server.server_port
        for words, code, told in (
            ((table, "--label", "dgo"), 1, "Did you mean 'dog'?"),
            ((table, "--port", in_use), 1, f"port {in_use} of 127.0.0.1 cannot be used"),
            ((tmp_path / "broken",), 1, "is damaged"),
            ((tmp_path / "nothing.csv",), 1, "there is no file"),
            ((tmp_path / "found", "--val-fraction", 0.2), 2, "leave it out"),
        ):
            result = sandbox.run("review", *words, "--no-browser")
            assert result.exit_code == code, result.stderr
            assert told in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["corrections.csv", ".corrections.csv.lock"])
def test_a_place_that_cannot_be_written_is_told_before_a_decision_is_made(
    table: Path, tmp_path: Path, name: str
) -> None:
    """A folder in place of a file: it stops root too, whom permissions do not."""
    (table.parent / name).mkdir()
    result = Sandbox(tmp_path).run("review", table, "--no-browser")
    assert result.exit_code == 1
    assert "decisions cannot be written" in result.stderr and "a copy of the table" in result.stderr


def test_a_foreign_file_of_the_same_name_is_refused(table: Path, tmp_path: Path) -> None:
    Place.of(table).file.write_text("date,fix\n")
    with pytest.raises(DatasetError, match="no list of decisions"):
        opened(table)
    for command in ("review", "data"):
        result = Sandbox(tmp_path).run(command, table)
        assert result.exit_code == 1
        assert "--no-corrections" in result.stderr
