"""A review's server that runs while a test asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.review.server import ReviewServer
from labeldep_cli.review.session import Session


@contextmanager
def serving(session: Session, rules: PixelRules = USUAL_RULES) -> Iterator[ReviewServer]:
    server = ReviewServer(session, 0, rules=rules)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
