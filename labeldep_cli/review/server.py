"""The page of a review on this machine: a server on 127.0.0.1 that only the page with the right token may use."""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.reports.page import jpeg, render
from labeldep_cli.review.session import Outdated, Session

HOST = "127.0.0.1"

_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine in a Host header. Another one is that of a foreign page whose name leads here."""

_SIDE = 1200  # pixels of an image's longer side on the page
_LONGEST = 10_000_000  # bytes of a decision
_HTML, _JSON, _JPEG, _TEXT = "text/html; charset=utf-8", "application/json", "image/jpeg", "text/plain; charset=utf-8"


class ReviewServer(ThreadingHTTPServer):
    """Serves a session's page, its cards and images, and takes its decisions.

    Args:
        session: the cards, and who decides.
        port: of this machine; 0 for a free one.
        label: the label that the page filters by first; empty for none.
        rules: how image files become 8-bit RGB.

    Raises:
        LabeldepError: the port is in use or may not be used.
    """

    daemon_threads = True
    request_queue_size = 64  # a browser asks for several images at once

    def __init__(self, session: Session, port: int, label: str = "", rules: PixelRules = USUAL_RULES) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise LabeldepError(
                f"port {port} of {HOST} cannot be used: {error.strerror}", "Leave --port out: a free one is taken."
            ) from None
        self.session = session
        self.rules = rules
        self.numbers = {str(number): number for number in range(len(session.cards))}
        self.token = secrets.token_urlsafe(16)
        self.page = render("review.html.j2", dataset=session.dataset.name, label=label).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in socketserver
        """Say nothing of a browser that goes away before an answer is complete."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers a request; all paths begin with the token."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"  # one connection for all images
    timeout = 60  # seconds without a byte, after which a connection is closed: each holds a thread

    def do_GET(self) -> None:
        """Give the page, the cards or an image."""
        match self._words():
            case [""]:
                self._answer(HTTPStatus.OK, self.server.page, _HTML)
            case ["cards"]:
                self._json(HTTPStatus.OK, self.server.session.to_json())
            case ["image", number] if number in self.server.numbers:
                self._image(self.server.numbers[number])
            case None:
                pass
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"there is nothing here", _TEXT)

    def do_POST(self) -> None:
        """Take a decision."""
        words = self._words()
        if words is None:
            return
        host = self.headers.get("Host", "")
        if self.headers.get("Origin") != f"http://{host}" or self.headers.get_content_type() != _JSON:
            self._refuse("only the page itself may decide")
        elif words != ["decide"]:
            self._refuse("there is nothing here", HTTPStatus.NOT_FOUND)
        else:
            self._decide()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the terminal is the command's."""

    def _words(self) -> list[str] | None:
        """The parts of the path after the token; None if the request was refused."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in _NAMES and host not in _NAMES:
            self._refuse("this page is for the browser of this machine")
            return None
        _, token, *words = self.path.partition("?")[0].split("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or not words:
            self._refuse("the address lacks the right token: open the one that the command printed")
            return None
        return words

    def _decide(self) -> None:
        session = self.server.session
        try:
            told = json.loads(self.rfile.read(self._length()))
            number = told["number"]
            card = session.decide(number, told["kind"], told["before"], told["after"], str(told.get("key", "")))
        except Outdated:
            self._json(HTTPStatus.CONFLICT, {"card": session.card_json(number)})
        except LabeldepError as error:
            self._json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": str(error)})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._refuse("this is no decision", HTTPStatus.BAD_REQUEST)
        else:
            self._json(HTTPStatus.OK, {"card": card})

    def _length(self) -> int:
        length = int(self.headers.get("Content-Length", ""))
        if not 0 <= length <= _LONGEST:
            raise ValueError("too long")
        return length

    def _image(self, number: int) -> None:
        try:
            content = jpeg(self.server.session.cards[number].file, self.server.rules, _SIDE)
        except UnreadableImage as error:
            self._answer(HTTPStatus.NOT_FOUND, error.reason.text.encode(), _TEXT)
        else:
            self._answer(HTTPStatus.OK, content, _JPEG, keep="private, max-age=3600")

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, json.dumps(value).encode(), _JSON)

    def _refuse(self, why: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        self.close_connection = True  # the rest of the request is not read
        self._answer(status, why.encode(), _TEXT)

    def _answer(self, status: HTTPStatus, content: bytes, kind: str, keep: str = "no-store") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": keep,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
