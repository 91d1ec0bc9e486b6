"""The pages of a review in a browser: by keyboard, by touch, with the server gone, and as a file sent to somebody."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sandbox import BACKBONE, Sandbox, make_table
from serving import serving
from test_review import Command, applied, card, opened, suspect, written

from labeldep_cli.datasets.corrections import Place
from labeldep_cli.datasets.decision_file import append, read
from labeldep_cli.evaluation.suspects import Card
from labeldep_cli.review.server import ReviewServer
from labeldep_cli.review.session import Session
from labeldep_cli.review.taking import take

HOSTILE = (
    "</script><script>window.hit=1</script>",
    '<img src=x onerror="window.hit=1">',
    "\u202ebackwards",
    "a;b,\"c'",
    "cat",
)
"""Names of labels that would break out of a page, turn its text, or be taken for several."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight images: cat on the even ones, dog on the first four, mat on the last two."""
    make_table(tmp_path / "pets", rows=8)
    lines = [f"img/{k}.png,{'test' if k == 7 else 'train'},{(k + 1) % 2},{int(k < 4)},{int(k > 5)}" for k in range(8)]
    (tmp_path / "pets" / "labels.csv").write_text("\n".join(["path,split,cat,dog,mat", *lines]) + "\n")
    return tmp_path / "pets" / "labels.csv"


def suspicious(table: Path) -> Session:
    """Of the first four images: mat is missing; on the second, cat too."""
    cards = [card(k, suspect("mat", False), *([suspect("cat", False)] if k == 1 else [])) for k in range(4)]
    return opened(table, *cards)


@contextmanager
def window(browser, url: str, width: int = 1280, quiet: bool = True, **options: object) -> Iterator[object]:
    """A tab with the page; what the console tells is an error, unless it is expected."""
    context = browser.new_context(viewport={"width": width, "height": 844}, accept_downloads=True, **options)
    tab = context.new_page()
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.goto(url)
    tab.wait_for_selector("#card:not([hidden])")
    yield tab
    if quiet:
        assert told == []
    context.close()


def saved(session: Session, tab: object, n: int) -> list[tuple[str, str]]:
    """Wait until the file has n decisions; each as image and kind."""
    tab.wait_for_selector("#alert", state="hidden")
    for _ in range(200):
        found = read(session.place.file)
        if len(found) >= n:
            return [(one.path, one.decision) for one in found]
        tab.wait_for_timeout(20)
    raise AssertionError(f"{len(found)} of {n} decisions are written")


def test_by_keyboard(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url) as tab:
        assert "Image 1 of 4, 0 decided" in tab.inner_text("#progress")
        assert tab.inner_text("#suspects button").startswith("+ With mat?")
        assert "mat is 3 % probable" in tab.inner_text("#suspects")
        tab.keyboard.press("a")  # img/0.png: with mat
        tab.keyboard.press("2")  # img/1.png: of the two suggestions only cat
        assert tab.inner_text("#accept").startswith("Save")
        tab.keyboard.press("Enter")  # the button of the suggestion has the focus: it is taken back
        tab.keyboard.press("2")
        tab.keyboard.press("a")
        assert saved(session, tab, 2) == [("img/0.png", "accept"), ("img/1.png", "edit")]
        tab.keyboard.press("e")  # img/2.png: dog goes, mat comes
        tab.keyboard.type("do")
        assert tab.inner_text("#matches") == "1 match: Enter switches dog"
        tab.keyboard.press("Enter")
        tab.keyboard.type("MAT")
        tab.keyboard.press("Enter")
        tab.keyboard.press("Enter")
        tab.keyboard.press("r")  # img/3.png
        saved(session, tab, 4)
        assert applied(table)["img/1.png"] == ("cat", "dog")
        assert applied(table)["img/2.png"] == ("cat", "mat"), read(session.place.file)
        assert tab.inner_text("#progress") == "Image 4 of 4, 4 decided"
        assert tab.inner_text("#finished-title") == "All 4 images are decided"
        assert tab.inner_text("#finished-text").startswith("3 corrected, 1 right as written. Close this page")
        tab.keyboard.press("u")
        assert "Image 4 of 4, 3 decided" in tab.inner_text("#progress")
        tab.keyboard.press("u")  # the one before
        assert "Image 3 of 4, 2 decided" in tab.inner_text("#progress")
        assert tab.is_hidden("#finished")
        tab.keyboard.press("s")
        assert tab.inner_text("#progress") == "Image 4 of 4, 2 decided, 1 skipped", (
            "the next one that nobody has looked at"
        )
        tab.keyboard.press("ArrowLeft")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Control+s")  # the browser's own
        assert saved(session, tab, 7)[4:] == [("img/3.png", "undo"), ("img/2.png", "undo"), ("img/2.png", "skip")]
    assert applied(table)["img/2.png"] == ("cat", "dog")


def test_the_editor_by_keyboard(browser, table: Path) -> None:
    session = opened(table)
    with serving(session) as server, window(browser, server.url) as tab:
        pressed = "[...document.querySelectorAll('#choices button')].map((one) => one.getAttribute('aria-pressed'))"
        tab.keyboard.press("e")
        assert tab.inner_text("#choices").split() == ["cat", "dog", "mat"]
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("Space")
        assert tab.evaluate(pressed) == ["true", "false", "false"]
        assert tab.evaluate("document.activeElement.textContent") == "dog"
        tab.keyboard.press("m")  # a letter goes into the filter
        assert tab.input_value("#filter") == "m"
        tab.keyboard.press("Escape")
        assert tab.is_hidden("#editor"), "nothing is changed"
        tab.keyboard.press("e")
        assert tab.evaluate(pressed) == ["true", "true", "false"]
        tab.keyboard.type("zebra")
        assert tab.inner_text("#matches") == "No label matches"
        tab.keyboard.press("Enter")
        assert tab.is_visible("#editor")
        tab.fill("#filter", "mat")
        tab.keyboard.press("Enter")
        tab.keyboard.press("Control+Enter")
        saved(session, tab, 1)
    assert applied(table)["img/0.png"] == ("cat", "dog", "mat")


def test_labels_that_are_unknown(browser, tmp_path: Path, table: Path) -> None:
    table.write_text(
        "path,split,cat,dog\nimg/0.png,train,1,-1\nimg/1.png,val,-1,-1\nimg/2.png,test,0,0\nimg/3.png,test,0,1\n"
    )
    session = opened(table)
    with serving(session) as server, window(browser, server.url) as tab:
        assert tab.inner_text("#unknown") == "Unknown: dog"
        tab.keyboard.press("e")
        states = []
        for _ in range(3):
            states.append(tab.locator("#choices button").nth(1).get_attribute("aria-pressed"))
            tab.locator("#choices button").nth(1).press("Enter")
        assert states == ["mixed", "true", "false"]
        tab.locator("#choices button").nth(1).press("Space")
        tab.keyboard.press("Control+Enter")
        saved(session, tab, 1)
    assert applied(table)["img/0.png"] == ("cat", "dog")


def test_by_touch_on_a_small_screen(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url, 390, has_touch=True, is_mobile=True) as tab:
        for state in ("card", "editor"):
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            small = "[...document.querySelectorAll('button, select, input')].filter((one) => one.offsetParent)"
            small += ".filter((one) => Math.min(one.offsetHeight, one.offsetWidth) < 44).map((one) => one.outerHTML)"
            assert tab.evaluate(small) == [], state
            bar = tab.locator("#actions" if state == "card" else "#editor .actions").bounding_box()
            assert bar["y"] + bar["height"] <= 845, "what decides is in sight"
            tab.tap("#edit" if state == "card" else "#cancel")
        tab.tap("#accept")
        tab.locator("#suspects button").nth(1).tap()
        tab.tap("#accept")
        tab.tap("#edit")
        assert tab.evaluate("document.activeElement.id") != "filter", "no keyboard slides over the labels"
        tab.locator("#choices button").nth(1).tap()
        tab.tap("#keep")
        tab.tap("#skip")
        tab.tap("#undo")
        tab.tap("#previous")
        tab.tap("#next")
        tab.tap("#reject")
        found = saved(session, tab, 6)
    kinds = [kind for _, kind in found]
    assert kinds == ["accept", "edit", "edit", "skip", "undo", "reject"]
    assert applied(table)["img/1.png"] == ("cat", "dog")
    assert applied(table)["img/2.png"] == ("cat",)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")])
def test_it_is_accessible(browser, table: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    session = suspicious(table)
    session.decide(3, "edit", {"present": [1], "unknown": []}, {"present": [0], "unknown": []})
    with serving(session) as server, window(browser, server.url, width, color_scheme=scheme) as tab:
        tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        for key in ("1", "u", "ArrowRight", "ArrowRight", "ArrowRight", "e"):
            tab.keyboard.press(key)
            found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], key


def test_names_are_text(browser, tmp_path: Path, table: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz",
        X=rng.normal(size=(6, 3)),
        Y=np.eye(6, len(HOSTILE), -1, np.int8),
        label_names=np.array(HOSTILE),
    )
    session = opened(tmp_path / "x.npz", card_of_row(HOSTILE))
    with serving(session) as server, window(browser, server.url) as tab:
        assert "Ready features have no image." in tab.inner_text("#picture")
        assert [tab.locator("#suspects button bdi").nth(k).text_content() for k in range(len(HOSTILE))] == list(HOSTILE)
        tab.keyboard.press("e")
        assert sorted(tab.locator("#choices bdi").all_text_contents()) == sorted(HOSTILE)
        tab.keyboard.press("Escape")
        tab.keyboard.press("a")
        saved(session, tab, 1)
        assert tab.locator("#labels bdi").all_text_contents() == list(HOSTILE)
        assert tab.evaluate("window.hit") is None
    (one,) = read(session.place.file)
    assert one.after.present == HOSTILE
    assert one.content, "a row of features is known by its content"
    assert applied(tmp_path / "x.npz")["row-0"] == HOSTILE


def card_of_row(labels: tuple[str, ...]) -> Card:
    return replace(card(0, *(suspect(label, False) for label in labels)), path="row-0")


def test_the_next_image_is_there_when_it_is_needed(browser, table: Path) -> None:
    session = opened(table)
    with serving(session) as server, window(browser, server.url) as tab:
        fetched = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/image/')).length"
        while tab.evaluate(fetched) < 5:  # this one, and four ahead
            tab.wait_for_timeout(20)
        tab.keyboard.press("r")
        assert tab.evaluate("document.querySelector('#picture img').complete")
        assert tab.get_attribute("#picture img", "alt") == "img/1.png"


def test_an_image_that_cannot_be_read_is_told(browser, table: Path) -> None:
    (table.parent / "img" / "0.png").write_bytes(b"none")
    with serving(opened(table)) as server, window(browser, server.url, quiet=False) as tab:
        tab.locator("#picture p", has_text="This image cannot be read: not an image.").wait_for()


def test_the_filter_by_label(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url) as tab:
        assert tab.locator("#label-filter option").all_text_contents() == ["all (4)", "cat (1)", "mat (4)"]
        tab.select_option("#label-filter", "cat")
        assert "Image 1 of 1, 0 decided" in tab.inner_text("#progress")
        assert "img/1.png" in tab.inner_text("#name")
        tab.keyboard.press("r")
        tab.select_option("#label-filter", "")
        assert "1 decided" in tab.inner_text("#progress")
    server = ReviewServer(opened(table), 0, "mat")
    server.server_close()
    assert b'id="wished-label">"mat"</script>' in server.page


def test_the_filter_by_keyboard(browser, table: Path) -> None:
    """The arrows go through the labels; after Enter, the keys decide."""
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "label-filter"
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        assert tab.input_value("#label-filter") == "mat"
        tab.keyboard.press("ArrowUp")
        assert tab.input_value("#label-filter") == "cat"
        tab.keyboard.press("Enter")
        tab.keyboard.press("r")
        assert saved(session, tab, 1) == [("img/1.png", "reject")]
        assert tab.inner_text("#finished-title") == "The only image with cat is decided"
        assert tab.inner_text("#finished-text").endswith('3 with other labels are left: choose "all" above.')


@pytest.mark.parametrize(("key", "code"), [("A", "KeyA"), ("\u0444", "KeyA"), ("a", "KeyQ")])
def test_keys_of_other_keyboards(browser, table: Path, key: str, code: str) -> None:
    """Caps lock, a Cyrillic keyboard, a French one."""
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url) as tab:
        tab.evaluate(
            "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true}))",
            [key, code],
        )
        assert saved(session, tab, 1) == [("img/0.png", "accept")]


def test_nothing_to_decide_on(browser, table: Path) -> None:
    session = replace(suspicious(table), cards=[])
    with serving(session) as server:
        tab = browser.new_page()
        tab.goto(server.url)
        tab.wait_for_selector("#nothing:not([hidden])")
        assert tab.inner_text("#nothing") == "There is no image to decide on."
        assert tab.inner_text("#progress") == "No image"
        tab.close()


def test_many_cards_and_labels_open_at_once(browser, tmp_path: Path) -> None:
    """The time grows with the number of cards and of labels, not with their product."""
    n, labels = 20_000, 1_500
    rng = np.random.default_rng(0)
    y = np.zeros((n, labels), np.int8)
    y[np.arange(n), rng.integers(labels, size=n)] = 1
    np.savez(tmp_path / "x.npz", X=rng.normal(size=(n, 2)), Y=y, label_names=[f"label {k}" for k in range(labels)])
    session = opened(tmp_path / "x.npz")
    with serving(session) as server, window(browser, server.url) as tab:
        entry = "performance.getEntriesByType('resource').find(({name}) => name.endsWith('/cards'))"
        took = f"performance.now() - {entry}.responseEnd"
        assert tab.evaluate(took) < 2500


def test_a_server_that_does_not_answer_loses_nothing(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url, quiet=False) as tab:
        with tab.expect_request_finished(lambda request: request.url.endswith("/decide")):
            tab.keyboard.press("a")
        tab.route("**/decide", lambda route: route.abort())
        tab.keyboard.press("a")
        tab.wait_for_selector("#alert:not([hidden])")
        assert tab.inner_text("#alert-text").startswith("1 decision is not saved: ")
        tab.keyboard.press("r")
        told = tab.locator("#alert-text", has_text="2 decisions are not saved")
        told.wait_for()  # by itself
        tab.unroute("**/decide")
        tab.click("#again")
        assert saved(session, tab, 3) == [("img/0.png", "accept"), ("img/1.png", "accept"), ("img/2.png", "reject")]


def test_a_server_that_hangs_is_told_and_asked_again(browser, table: Path) -> None:
    """The first answer is lost on its way: the decision is written, once, though it is sent again."""
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url, quiet=False) as tab:
        lost: list[object] = []

        def lose_one(route) -> None:
            lost.append(route.fetch() if not lost else route.continue_())

        tab.route("**/decide", lose_one)
        tab.keyboard.press("a")
        tab.wait_for_selector("#alert:not([hidden])")
        assert "1 decision is not saved: labeldep review does not answer" in tab.inner_text("#alert-text")
        tab.wait_for_selector("#alert", state="hidden")
        tab.keyboard.press("u")
        assert saved(session, tab, 2) == [("img/0.png", "accept"), ("img/0.png", "undo")]


def test_decisions_for_a_killed_command_are_saved_as_a_file(browser, table: Path, tmp_path: Path) -> None:
    """The command that is started again has another address: the window has to be given up."""
    command = Command(tmp_path, table)
    port = command.url.split(":")[2].split("/")[0]
    with window(browser, command.url, quiet=False) as tab:
        command.end(signal.SIGKILL)
        tab.keyboard.press("r")
        tab.wait_for_selector("#alert:not([hidden])")
        again = Command(tmp_path, table, "--port", port)
        tab.locator("#alert-text", has_text="has a new address").wait_for()
        tab.keyboard.press("r")
        assert tab.inner_text("#alert-text").startswith("2 decisions are not saved")
        with tab.expect_download() as download:
            tab.click("#rescue")
        download.value.save_as(tmp_path / "saved.csv")
        again.end(signal.SIGINT)
    found = take(written(table), Place.of(table), read(tmp_path / "saved.csv"), "ada")
    assert found.appended == ("img/0.png", "img/1.png")


def test_what_somebody_else_decided_meanwhile_is_told(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server, window(browser, server.url, quiet=False) as tab:
        other = suspicious(table)
        other.decide(0, "edit", {"present": [0, 1], "unknown": []}, {"present": [0], "unknown": []})
        tab.keyboard.press("a")
        tab.wait_for_selector("#alert:not([hidden])")
        assert "img/0.png was decided elsewhere meanwhile" in tab.inner_text("#alert")
        tab.keyboard.press("ArrowLeft")
        assert "Decided: edited, by ada" in tab.inner_text("#decided")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("r")
        assert saved(session, tab, 2) == [("img/0.png", "edit"), ("img/1.png", "reject")]


def test_a_page_that_is_opened_again_goes_on(browser, table: Path) -> None:
    session = suspicious(table)
    with serving(session) as server:
        with window(browser, server.url) as tab:
            tab.keyboard.press("a")
            saved(session, tab, 1)
        with window(browser, server.url) as tab:
            assert "Image 2 of 4, 1 decided" in tab.inner_text("#progress")
            tab.keyboard.press("ArrowLeft")
            assert "Decided: suggestion accepted, by ada" in tab.inner_text("#decided")
            assert tab.locator("#labels li").all_inner_texts() == ["cat", "dog", "+ mat"]
            tab.keyboard.press("r")  # after all, the table is right
            assert saved(session, tab, 2)[-1] == ("img/0.png", "reject")
            tab.keyboard.press("s")
            saved(session, tab, 3)
    again = suspicious(table)
    with serving(again) as server, window(browser, server.url) as tab:
        assert "img/2.png" in tab.inner_text("#name")
        for _ in range(4):  # one more than there are
            tab.keyboard.press("u")
        undone = [("img/1.png", "undo"), ("img/0.png", "undo"), ("img/0.png", "undo")]
        assert saved(again, tab, 6)[3:] == undone, "what was decided before is taken back too"
        assert tab.is_disabled("#undo")
    assert applied(table)["img/0.png"] == ("cat", "dog")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("audit"))
    make_table(sandbox.table.parent)
    quick = ("--steps", 30, "--folds", 2, "--repeats", 1, "--top", 6)
    result = sandbox.run("audit", sandbox.table, *BACKBONE, *quick, "--out", sandbox.folder / "audit")
    assert result.exit_code == 0, result.stderr
    return sandbox


def test_the_page_of_an_audit_gives_decisions_back_as_a_file(browser, audited: Sandbox, tmp_path: Path) -> None:
    page = (audited.folder / "audit" / "audit.html").as_uri()
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    tab = context.new_page()
    told: list[str] = []
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on(
        "request",
        lambda request: told.append(request.url) if request.url[:5] not in ("file:", "data:", "blob:") else None,
    )
    tab.goto(page)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("document.querySelector('#picture img').src").startswith("data:image/jpeg;base64,")
    assert tab.is_disabled("#save")
    tab.fill("#who", "Zoë")
    tab.locator("#who").blur()
    for key in ("a", "r", "s", "u"):
        tab.keyboard.press(key)
    assert "4 decisions, kept in this browser" in tab.inner_text("#kept")
    tab.goto("about:blank")
    tab.goto(page)
    assert "Image 3 of 6, 2 decided" in tab.inner_text("#progress"), "kept while the page was closed"
    assert tab.input_value("#who") == "Zoë"
    with tab.expect_download() as download:
        tab.click("#save")
    download.value.save_as(tmp_path / "decisions.csv")
    assert told == []
    context.close()
    first, second, *_ = [one.path for one in read(tmp_path / "decisions.csv")]
    found = audited.json("review", audited.table, "--take", tmp_path / "decisions.csv")
    assert (found["appended"], found["conflicting"]) == ([first, second], [])
    kept = read(Place.of(audited.table).file)
    assert [(one.who, one.decision) for one in kept] == [("Zoë", "accept"), ("Zoë", "reject")]
    assert audited.json("data", audited.table)["corrections"]["decided"] == 2


def test_two_windows_of_the_page_of_an_audit_lose_nothing(browser, audited: Sandbox) -> None:
    page = (audited.folder / "audit" / "audit.html").as_uri()
    context = browser.new_context()
    first, second = context.new_page(), context.new_page()
    for tab in (first, second):
        tab.goto(page)
        tab.wait_for_selector("#card:not([hidden])")
    first.keyboard.press("r")
    second.locator("#progress", has_text="Image 2 of 6, 1 decided").wait_for()
    second.keyboard.press("r")
    first.locator("#progress", has_text="Image 3 of 6, 2 decided").wait_for()
    assert "2 decisions" in first.inner_text("#kept")
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_an_audit_is_accessible(browser, audited: Sandbox, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    page = (audited.folder / "audit" / "audit.html").as_uri()
    with window(browser, page, width, color_scheme=scheme) as tab:
        tab.click("summary")
        tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_a_file_of_the_page_is_read_back_whatever_the_names_are(browser, tmp_path: Path) -> None:
    """The script writes lines as Python does: read back, they are the same decisions."""
    np.savez(
        tmp_path / "x.npz", X=np.ones((6, 2)), Y=np.eye(6, len(HOSTILE), -1, np.int8), label_names=np.array(HOSTILE)
    )
    session = opened(tmp_path / "x.npz", card_of_row(HOSTILE))
    session.place = Place(session.place.file, 'a "table", of\nmine')
    with serving(session) as server, window(browser, server.url, quiet=False) as tab:
        tab.route("**/decide", lambda route: route.abort())
        tab.keyboard.press("a")
        tab.wait_for_selector("#rescue:visible")
        with tab.expect_download() as download:
            tab.click("#rescue")
        download.value.save_as(tmp_path / "saved.csv")
    (one,) = read(tmp_path / "saved.csv")
    assert (one.table, one.path, one.after.present) == ('a "table", of\nmine', "row-0", HOSTILE)
    append(tmp_path / "again.csv", [one])
    assert read(tmp_path / "again.csv") == (one,)
