"""`labeldep review` is a server: decisions are posted, it is killed, and it must have them all when it starts again."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.processes import Child, run_command

if TYPE_CHECKING:
    from benchmarks.kills.command import Bench

NAME = "review"
_WORDS = ["review", "photos/labels.csv", "--no-browser", "--json"]
_PATIENCE = 60.0


def kill(bench: Bench, kills: int, seed: int) -> dict[str, Any]:
    """Kill a review after some decisions, each second time with one more under way; as `run` returns it."""
    from benchmarks.kills.command import OUTCOMES, SIGNALS, survivors

    counts, codes, bad = Counter[str](), Counter[str](), Counter[str]()
    draws = np.random.default_rng([seed, *NAME.encode()])
    for round_ in range(kills):
        bench.restore()
        number = SIGNALS[draws.integers(len(SIGNALS))]
        server = _Server(bench)
        done = int(draws.integers(len(server.cards) + 1))
        order = [card["path"] for card in server.cards]
        for card in range(done):
            server.decide(card)
        if round_ % 2 and done < len(server.cards):
            server.decide(done, wait=False)
            time.sleep(float(draws.uniform(0, 0.01)))
        server.child.signal(number, number.name in ("SIGHUP", "SIGINT"))
        code = server.child.wait(_PATIENCE).code
        if number.name != "SIGKILL":
            codes[str(code)] += 1
        alive = survivors()
        again = _Server(bench)
        there = {card["path"]: number for number, card in enumerate(again.cards)}  # undecided images come first
        decided = {n for n, path in enumerate(order) if "decision" in again.cards[there[path]]["states"][-1]}
        for n in range(len(order)):
            if n not in decided:
                again.decide(there[order[n]])
        again.child.signal(number.SIGINT, True)
        ended = again.child.wait(_PATIENCE)
        lines = (bench.work / "photos" / "corrections.csv").read_text().splitlines()
        what = _fault(decided, done, ended.code, lines, len(again.cards), alive + survivors())
        counts[what[0]] += 1
        if what[1]:
            bad[f"{number.name}: {what[1]}"] += 1
    return {"counts": {name: counts[name] for name in OUTCOMES}, "codes": dict(codes), "bad": dict(bad)}


def _fault(
    decided: set[int], done: int, code: int | None, lines: list[str], n: int, alive: list[str]
) -> tuple[str, str]:
    if code != 0:
        return "error", f"exit code {code}"
    if alive:
        return "outlived", "; ".join(alive)
    if lost := set(range(done)) - decided:
        return "other", f"decisions lost: {len(lost)}"
    if decided - set(range(done + 1)):
        return "other", "decisions that nobody made"
    if len(lines) != n + 1 or len({line.split(",")[3] for line in lines[1:]}) != n:
        return "other", f"{len(lines) - 1} lines for {n} decisions"
    return "same", ""


class _Server:
    """A review that runs, and what its page does."""

    def __init__(self, bench: Bench) -> None:
        self.child = Child(lambda: run_command(_WORDS), bench.work, apart=True)
        deadline = time.monotonic() + _PATIENCE
        while not (found := re.search(rb"the page: (\S+)/\n", self.child.told())):
            if time.monotonic() > deadline or self.child.ended():
                raise RuntimeError(f"the review does not start: {self.child.told().decode()}")
            time.sleep(0.01)
        address = urlsplit(found[1].decode())
        self._host, self._token = address.netloc, address.path
        self.cards: list[dict[str, Any]] = self._ask("GET", "/cards")["cards"]

    def decide(self, number: int, wait: bool = True) -> None:
        """Skip an image; with `wait`, the answer is read, so that the decision must be on the disk."""
        card = self.cards[number]
        state = card["states"][-1]
        told = {"number": number, "kind": "skip", "before": state, "after": state}
        self._ask("POST", "/decide", json.dumps(told), wait)

    def _ask(self, method: str, path: str, body: str | None = None, wait: bool = True) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection(self._host, timeout=_PATIENCE)
        headers = {"Origin": f"http://{self._host}", "Content-Type": "application/json"}
        connection.request(method, self._token + path, body, headers)
        if not wait:
            return None
        answer = connection.getresponse()
        content = answer.read()
        with suppress(ValueError):
            if answer.status == 200:
                return json.loads(content)
        raise RuntimeError(f"{path}: {answer.status} {content!r}")
