"""`data --download` from a server on this machine: COCO's archives as published, but with a few photos."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import processes
from labeldep_cli.datasets import coco_archives
from labeldep_cli.datasets.coco_archives import Archive
from labeldep_cli.datasets.http import Remote

_SIZES = {"train2014": 40, "val2014": 10}
_BLOCK, _REST = 2048, 0.002
"""Bytes that the server sends at a time, and the seconds between, so that a kill falls into a download."""


class Coco:
    """The archives by their paths, and how the download knows them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        lists = {f"annotations/instances_{year}.json": _annotations(year, n) for year, n in _SIZES.items()}
        photos = {
            year: {f"{year}/COCO_{year}_{k:012d}.jpg": _photo(100 * n + k) for k in range(n)}
            for year, n in _SIZES.items()
        }
        self.archives = (
            self._publish("/annotations/all.zip", "annotations", "instances_*2014.json", lists),
            *(self._publish(f"/zips/{year}.zip", year, f"COCO_{year}_*.jpg", files) for year, files in photos.items()),
        )

    def _publish(self, path: str, folder: str, pattern: str, files: dict[str, bytes]) -> Archive:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as opened:
            for name, content in files.items():
                opened.writestr(zipfile.ZipInfo(name), content)  # without a date: the same bytes each time
        content = self.files[path] = stream.getvalue()
        remote = Remote(f"http://images.example{path}", len(content), hashlib.sha256(content).hexdigest())
        count = sum(Path(name).match(pattern) for name in files)
        return Archive(remote, folder, pattern, count, sum(map(len, files.values())))


def _annotations(year: str, n: int) -> bytes:
    described = {
        "images": [{"id": k, "file_name": f"COCO_{year}_{k:012d}.jpg"} for k in range(n)],
        "annotations": [{"id": k, "image_id": k, "category_id": 1 + k % 2, "iscrowd": 0} for k in range(n)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "mat"}],
    }
    return json.dumps(described).encode()


def _photo(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def run_command(words: list[str]) -> None:
    """Serve the archives in a process of its own, which ends with this one, and run the command on them."""
    coco = Coco()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": coco.files}))
    server.daemon_threads = True
    if not os.fork():
        from labeldep_cli.compute.interruption import leave_to_parent

        os.setsid()
        leave_to_parent(0)
        server.serve_forever()
    server.socket.close()
    setattr(coco_archives, "ARCHIVES", coco.archives)  # noqa: B010 - of another length
    os.environ["no_proxy"] = "127.0.0.1"
    processes.run_command([*words, "--mirror", f"http://127.0.0.1:{server.server_port}"])


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Send a file slowly, from the byte that is asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, content = int(asked[1]) if asked else 0, self.files[self.path]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        for place in range(start, len(content), _BLOCK):
            self.wfile.write(content[place : place + _BLOCK])
            time.sleep(_REST)
