"""`data --download` against a server that breaks off, knows no ranges, lies about sizes, is busy or has lost things."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sandbox import Sandbox
from test_datasets import write_nuswide

from labeldep_cli.config import DownloadConfig
from labeldep_cli.datasets import coco_archives, nuswide_photos, nuswide_urls, published
from labeldep_cli.datasets.coco_archives import ARCHIVES, Archive
from labeldep_cli.datasets.http import Remote, fetch
from labeldep_cli.errors import DatasetError, DownloadError, StorageError
from labeldep_cli.progress import SilentReporter

QUICK = DownloadConfig(backoff=0.01, timeout=5, pause=0.0, tries=5)
PATIENCE = 30.0  # seconds until something that does not get anywhere fails the test


class Notes(SilentReporter):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)

    def __str__(self):
        return "\n".join(self.told)


class Server:
    """Serves `files` by path. `tricks[path]` are played one a request, then the file is served as it should be.

    A trick: ("cut", n) sends n bytes and breaks off; ("status", code, headers); ("whole",) knows no ranges;
    ("length", n) claims n bytes; ("redirect", url); ("slow", seconds) rests between blocks of 4 kB, always.
    """

    def __init__(self):
        self.files, self.tricks, self.asked = {}, defaultdict(list), []
        handler = type("Handler", (_Handler,), {"server_of_test": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def starts(self, path):
        """The first byte that each request for a path asked for."""
        return [start for asked, start, _ in self.asked if asked == path]


class _Handler(BaseHTTPRequestHandler):
    server_of_test: Server

    def log_message(self, *words):
        pass

    def do_GET(self):
        server = self.server_of_test
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        server.asked.append((self.path, start, time.monotonic()))
        tricks = server.tricks[self.path]
        trick = (tricks[0] if tricks[0][0] == "slow" else tricks.pop(0)) if tricks else ("none",)
        if trick[0] == "redirect":
            trick = ("status", 302, {"Location": trick[1]})
        if trick[0] == "status" or self.path not in server.files:
            _, code, headers = trick if trick[0] == "status" else (None, 404, {})
            self.send_response(code)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        content = server.files[self.path]
        if trick[0] == "whole":
            start = 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(trick[1] if trick[0] == "length" else len(content) - start))
        self.end_headers()
        try:
            if trick[0] == "slow":
                for place in range(start, len(content), 4096):
                    self.wfile.write(content[place : place + 4096])
                    time.sleep(trick[1])
            else:
                self.wfile.write(content[start:][: trick[1] if trick[0] == "cut" else None])
        except (BrokenPipeError, ConnectionResetError):  # the client was killed
            pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def jpeg(seed, kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def packed(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return stream.getvalue()


def annotations(year, n):
    return json.dumps(
        {
            "images": [{"id": k, "file_name": f"COCO_{year}_{k:012d}.jpg"} for k in range(n)],
            "annotations": [{"id": k, "image_id": k, "category_id": 1 + k % 2, "iscrowd": 0} for k in range(n)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "mat"}],
        }
    )


def archive(server, path, folder, pattern, files):
    """Publish a zip at `path`; how the download knows it."""
    content = packed(files)
    server.files[path] = content
    remote = Remote(f"http://images.example{path}", len(content), hashlib.sha256(content).hexdigest())
    count = sum(Path(name).match(pattern) for name in files)
    return Archive(remote, folder, pattern, count, sum(len(file) for file in files.values()))


@pytest.fixture
def small_coco(server):
    """COCO as published, but 20 + 6 images."""
    sizes = {"train2014": 20, "val2014": 6}
    lists = {f"annotations/instances_{year}.json": annotations(year, n) for year, n in sizes.items()}
    images = {
        year: {f"{year}/COCO_{year}_{k:012d}.jpg": jpeg(100 * n + k) for k in range(n)} for year, n in sizes.items()
    }
    return (
        archive(server, "/annotations/all.zip", "annotations", "instances_*2014.json", lists),
        archive(server, "/zips/train2014.zip", "train2014", "COCO_train2014_*.jpg", images["train2014"]),
        archive(server, "/zips/val2014.zip", "val2014", "COCO_val2014_*.jpg", images["val2014"]),
    )


def require_as_published(root, server, archives):
    """All folders hold the zips' bytes, and nothing else lies beside them."""
    for each in archives:
        with zipfile.ZipFile(io.BytesIO(server.files[each.remote.url.removeprefix("http://images.example")])) as opened:
            for name in opened.namelist():
                assert (root / name).read_bytes() == opened.read(name)
    assert {path.name for path in root.iterdir()} - {".download.lock"} == {"annotations", "train2014", "val2014"}


class TestFetch:
    """One large file."""

    @pytest.fixture
    def remote(self, server):
        content = random.Random(0).randbytes(3_300_000)
        server.files["/zips/big.zip"] = content
        return Remote(f"{server.url}/zips/big.zip", len(content), hashlib.sha256(content).hexdigest())

    def get(self, remote, tmp_path, how=QUICK):
        notes = Notes()
        fetch(remote, tmp_path / "big.partial", how, notes)
        assert hashlib.sha256((tmp_path / "big.partial").read_bytes()).hexdigest() == remote.sha256
        return str(notes)

    def test_goes_on_where_the_connection_broke(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("cut", 1_000_000), ("status", 503, {}), ("cut", 500_000)]
        told = self.get(remote, tmp_path)
        assert server.starts("/zips/big.zip") == [0, 1_000_000, 1_000_000, 1_500_000]
        assert told.count("the connection ended early; trying again") == 2 and "HTTP 503" in told

    def test_goes_on_from_an_earlier_call(self, server, remote, tmp_path):
        (tmp_path / "big.partial").write_bytes(server.files["/zips/big.zip"][:1_234_567])
        assert "1.2 MB are there" in self.get(remote, tmp_path)
        assert server.starts("/zips/big.zip") == [1_234_567]

    def test_a_server_without_ranges_begins_anew(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("cut", 1_000_000), ("whole",)]
        assert "does not send parts of files; starting again" in self.get(remote, tmp_path)

    def test_a_partial_file_that_is_too_long_is_dropped(self, server, remote, tmp_path):
        (tmp_path / "big.partial").write_bytes(bytes(remote.size + 1))
        self.get(remote, tmp_path)
        assert server.starts("/zips/big.zip") == [0]

    @pytest.mark.parametrize(("claimed", "served"), [(17, 17), (3_400_000, 3_400_000)])
    def test_refuses_another_size(self, server, remote, tmp_path, claimed, served):
        server.files["/zips/big.zip"] = bytes(served)
        with pytest.raises(DownloadError, match=rf"has {claimed:,} bytes, not 3,300,000"):
            fetch(remote, tmp_path / "big.partial", QUICK, SilentReporter())
        assert len(server.asked) == 1

    def test_refuses_another_size_of_a_part(self, server, remote, tmp_path):
        (tmp_path / "big.partial").write_bytes(bytes(10))
        server.files["/zips/big.zip"] = bytes(99)
        with pytest.raises(DownloadError, match="has 99 bytes"):
            fetch(remote, tmp_path / "big.partial", QUICK, SilentReporter())

    def test_gives_up_after_a_bounded_number_of_tries(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("cut", 1000)] * 99
        with pytest.raises(DownloadError, match="cannot be fetched: the connection ended early") as raised:
            fetch(remote, tmp_path / "big.partial", QUICK, SilentReporter())
        assert len(server.asked) == QUICK.tries and "goes on from what is there" in raised.value.remedy
        assert (tmp_path / "big.partial").stat().st_size == 1000 * QUICK.tries

    def test_megabytes_renew_its_patience(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("cut", 1_100_000), ("cut", 0), ("cut", 1_100_000), ("cut", 0)]
        self.get(remote, tmp_path, replace(QUICK, tries=3))

    def test_a_file_that_is_not_there_is_asked_for_once(self, server, remote, tmp_path):
        with pytest.raises(DownloadError, match=r"nothing\.zip is not available: HTTP 404"):
            fetch(replace(remote, url=f"{server.url}/nothing.zip"), tmp_path / "x", QUICK, SilentReporter())
        assert len(server.asked) == 1

    def test_honours_retry_after(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("status", 429, {"Retry-After": "1"})]
        self.get(remote, tmp_path)
        (_, _, first), (_, _, second) = server.asked
        assert second - first >= 1

    def test_leaves_a_server_alone_that_asks_to_wait_for_hours(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("status", 503, {"Retry-After": "7200"})]
        with pytest.raises(DownloadError, match="HTTP 503; it asks to wait 7200 s"):
            fetch(remote, tmp_path / "big.partial", QUICK, SilentReporter())

    def test_nobody_answers(self, remote, tmp_path):
        with pytest.raises(DownloadError, match="refused"):
            fetch(remote, tmp_path / "x", replace(QUICK, mirror="http://127.0.0.1:1"), SilentReporter())

    def test_a_server_that_stalls(self, server, remote, tmp_path):
        server.tricks["/zips/big.zip"] = [("slow", 5.0)]
        with pytest.raises(DownloadError, match="timed out"):
            fetch(remote, tmp_path / "big.partial", replace(QUICK, timeout=0.2, tries=2), SilentReporter())


class TestCoco:
    def get(self, root, server, archives, **settings):
        root.mkdir(exist_ok=True)
        notes = Notes()
        coco_archives.download(root, replace(QUICK, mirror=server.url, **settings), notes, archives)
        return str(notes)

    def test_unpacks_and_removes_the_archives(self, server, small_coco, tmp_path):
        server.tricks["/zips/train2014.zip"] = [("cut", 9000), ("cut", 5000)]
        self.get(tmp_path / "coco", server, small_coco)
        require_as_published(tmp_path / "coco", server, small_coco)
        asked = len(server.asked)
        told = self.get(tmp_path / "coco", server, small_coco)
        assert told.count("is there already") == 3 and len(server.asked) == asked

    def test_keeps_the_archives(self, server, small_coco, tmp_path):
        self.get(tmp_path, server, small_coco, keep_archives=True)
        assert (tmp_path / "train2014.zip").read_bytes() == server.files["/zips/train2014.zip"]
        assert not list(tmp_path.glob("*.partial"))

    def test_takes_an_archive_that_the_user_brought_and_leaves_it(self, server, small_coco, tmp_path):
        (tmp_path / "train2014.zip").write_bytes(server.files["/zips/train2014.zip"])
        self.get(tmp_path, server, small_coco)
        assert (tmp_path / "train2014.zip").exists() and (tmp_path / "train2014").is_dir()
        assert server.starts("/zips/train2014.zip") == []

    def test_refuses_a_brought_archive_that_is_cut(self, server, small_coco, tmp_path):
        (tmp_path / "val2014.zip").write_bytes(server.files["/zips/val2014.zip"][:-1])
        with pytest.raises(DownloadError, match=r"val2014\.zip has [\d,]+ bytes, but [\d,]+ were published"):
            self.get(tmp_path, server, small_coco)
        assert (tmp_path / "val2014.zip").exists() and not (tmp_path / "val2014").exists()

    def test_refuses_other_bytes_of_the_same_size(self, server, small_coco, tmp_path):
        server.files["/annotations/all.zip"] = bytes(small_coco[0].remote.size)
        with pytest.raises(DownloadError, match=r"has SHA-256 \w+, but \w+ was published") as raised:
            self.get(tmp_path, server, small_coco)
        assert "fetches it again" in raised.value.remedy and list(tmp_path.iterdir()) == []

    def test_leaves_a_users_part_of_coco_alone(self, server, small_coco, tmp_path):
        (tmp_path / "train2014").mkdir()
        (tmp_path / "train2014" / "COCO_train2014_000000000003.jpg").write_bytes(b"mine")
        with pytest.raises(DatasetError, match=r"has 1 of 20 files COCO_train2014_\*\.jpg: it is a part"):
            self.get(tmp_path, server, small_coco)
        assert server.asked == [] and len(list((tmp_path / "train2014").iterdir())) == 1

    def test_room_is_looked_for_first(self, server, small_coco, tmp_path, monkeypatch):
        monkeypatch.setattr(coco_archives.shutil, "disk_usage", lambda path: _Disk(free=5))
        with pytest.raises(StorageError, match=r"has 5 B free, but .* take up to \d+\.\d kB more"):
            self.get(tmp_path, server, small_coco)
        assert server.asked == []

    def test_the_most_that_the_disk_holds_at_one_time(self, tmp_path):
        first, second = (
            Archive(Remote(f"http://x/{n}.zip", size, ""), n, "*", 1, unpacked)
            for n, size, unpacked in (("a", 100, 120), ("b", 50, 60))
        )
        # a: 100 + 120 at its fullest, 120 once its archive is gone; then b: 120 + 50 + 60.
        assert coco_archives.peak_bytes(tmp_path, [first, second], keep=False) == 230
        assert coco_archives.peak_bytes(tmp_path, [first, second], keep=True) == 330
        (tmp_path / "a.zip.partial").write_bytes(bytes(40))
        # a's 40 bytes go with its archive: 60 + 120, then 120 - 40 + 50 + 60.
        assert coco_archives.peak_bytes(tmp_path, [first, second], keep=False) == 190
        (tmp_path / "b.zip").write_bytes(bytes(50))
        assert coco_archives.peak_bytes(tmp_path, [first, second], keep=False) == 180

    def test_a_path_that_leads_out_is_refused(self, server, tmp_path):
        files = {"train2014/a.jpg": b"a", "train2014/../../b.jpg": b"b"}
        evil = archive(server, "/evil.zip", "train2014", "*.jpg", files)
        (tmp_path / "coco").mkdir()
        with pytest.raises(DatasetError, match=r"would write outside of its folder: 'train2014/\.\./\.\./b\.jpg'"):
            self.get(tmp_path / "coco", server, [evil])
        assert not (tmp_path / "b.jpg").exists() and not (tmp_path / "coco" / "train2014").exists()

    def test_the_official_archives(self):
        assert sum(each.remote.size for each in ARCHIVES) == 20_408_459_804
        assert [each.remote.name for each in ARCHIVES] == [
            "annotations_trainval2014.zip", "train2014.zip", "val2014.zip",
        ]  # fmt: skip
        assert all(re.fullmatch(r"[0-9a-f]{64}", each.remote.sha256) for each in ARCHIVES)

    def test_the_command(self, server, small_coco, tmp_path, monkeypatch):
        monkeypatch.setattr(coco_archives, "ARCHIVES", small_coco)
        result = Sandbox(tmp_path).run("data", "coco", "--download", "--mirror", server.url, "--workers", 0)
        assert result.exit_code == 0, result.output
        assert "coco: train 20 (19 + 1 held out), test 6 images; 2 labels" in result.stdout
        assert "train2014: 20 of 82,081 published images with labels: a subset" in result.stdout
        again = Sandbox(tmp_path).json("data", "--download", "coco", "--mirror", server.url, "--workers", 0)
        assert again["missing"] == []
        assert "val2014: 6 of 40,137 published images with labels: a subset" in again["notes"]

    def test_one_at_a_time(self, server, small_coco, tmp_path):
        server.tricks["/zips/train2014.zip"] = [("slow", 1.0)]
        with start(server, small_coco, tmp_path) as first:
            wait_until(lambda: server.starts("/zips/train2014.zip"), first)
            result = Sandbox(tmp_path).run("data", "coco", "--download", "--data-dir", tmp_path)
            assert result.exit_code == 1 and "another labeldep process is writing" in result.stderr
            first.kill()


@dataclass
class _Disk:
    free: int


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}


COMMAND = """
import json, os, signal, sys, zipfile
from labeldep_cli.datasets import coco_archives
from labeldep_cli.datasets.http import Remote
archives, die_at, *words = json.loads(sys.argv[1])
coco_archives.ARCHIVES = [coco_archives.Archive(Remote(**a.pop("remote")), **a) for a in archives]
extract, seen = zipfile.ZipFile.extract, []
def dying(self, member, path):
    seen.append(member)
    if len(seen) == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return extract(self, member, path)
zipfile.ZipFile.extract = dying
from labeldep_cli.cli import app
app(words)
"""


def start(server, archives, data_dir, die_at=0):
    words = ["data", "coco", "--download", "--mirror", server.url, "--data-dir", str(data_dir), "--workers", "0"]
    told = json.dumps([[asdict(each) for each in archives], die_at, *words])
    return subprocess.Popen([sys.executable, "-c", COMMAND, told], stdout=-1, stderr=-1, env=environment())


def wait_until(ready, process):
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)


def test_kill_9_anywhere(server, small_coco, tmp_path):
    root = tmp_path / "coco"
    partial = root / "train2014.zip.partial"
    size = small_coco[1].remote.size
    server.tricks["/zips/train2014.zip"] = [("slow", 0.05)]  # kill amid the download
    with start(server, small_coco, tmp_path) as process:
        wait_until(lambda: partial.exists() and partial.stat().st_size > size / 3, process)
        process.kill()
    kept = partial.stat().st_size
    assert 0 < kept < size and not (root / "train2014").exists()

    server.tricks["/zips/train2014.zip"] = []
    with start(server, small_coco, tmp_path, die_at=8) as process:  # then amid the unpacking
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert server.starts("/zips/train2014.zip") == [0, kept]
    assert (root / ".train2014.unpacking").is_dir() and not (root / "train2014").exists()

    with start(server, small_coco, tmp_path) as process:
        told = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 0, told
    assert "annotations is there already" in told
    assert server.starts("/zips/train2014.zip") == [0, kept], "the archive was whole"
    require_as_published(root, server, small_coco)


HEAD = "%%%%%%%%%%Photo_file    Photo_id    url_Large   url_Middle   url_Small  url_Original%%%%%%%%%%%%%%%%%\n"


class TestNuswide:
    """Eight rows, of which 2 and 5 carry no concept; photo n is `sky/n.jpg`, its sizes n_b, n, n_m, n_o."""

    @pytest.fixture
    def sandbox(self, server, tmp_path):
        write_nuswide(tmp_path / "data", [[1, 0], [0, 1], [0, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1]])
        (tmp_path / "urls.txt").write_text(HEAD + "".join(self.line(server.url, n) for n in range(8)))
        server.files |= {f"/1/{n}.jpg": jpeg(n) for n in range(8)}
        return Sandbox(tmp_path)

    def line(self, host, n, large="null", small="null", original="null"):
        return f"C:\\ImageData\\Flickr\\sky\\{n}.jpg   {n}  {large}  {host}/1/{n}.jpg   {small}  {original}  \r\n"

    def get(self, sandbox, how=QUICK):
        notes = Notes()
        root = sandbox.folder / "data" / "nuswide"
        wanted = {f"sky/{n}.jpg" for n in (0, 1, 3, 4, 6, 7)}
        nuswide_photos.download(root, wanted, sandbox.folder / "urls.txt", how, notes)
        assert not [path for path in root.rglob(".*") if path.name.endswith(".writing")]
        return str(notes)

    def photo(self, sandbox, n):
        return sandbox.folder / "data" / "nuswide" / "Flickr" / "sky" / f"{n}.jpg"

    def gone(self, sandbox):
        return (sandbox.folder / "data" / "nuswide" / "gone.csv").read_text()

    def test_the_command(self, server, sandbox):
        del server.files["/1/3.jpg"]
        found = sandbox.json("data", "nuswide", "--download", sandbox.folder / "urls.txt", "--workers", 0, code=3)
        assert found["missing"] == ["sky/3.jpg"] and found["unreadable"] == []
        assert "NUS-WIDE: 6 of 209,347 published images with labels: a subset" in found["notes"]
        assert self.photo(sandbox, 6).read_bytes() == server.files["/1/6.jpg"]
        assert sorted(path for path, _, _ in server.asked) == [f"/1/{n}.jpg" for n in (0, 1, 3, 4, 6, 7)]
        result = sandbox.run("data", "nuswide-official", "--download", sandbox.folder / "urls.txt", "--workers", 0)
        assert result.exit_code == 3 and len(server.asked) == 6, "what is there or gone is not asked for again"
        assert "photos: 5 were there, 0 fetched, 1 gone" in result.stderr

    def test_what_is_gone_is_written_down_and_asked_for_only_on_request(self, server, sandbox):
        (sandbox.folder / "urls.txt").write_text(
            HEAD
            + self.line(server.url, 0)
            + self.line(server.url, 1)
            + self.line(server.url, 3)
            + self.line(server.url, 4)
            + "C:\\ImageData\\Flickr\\sky\\6.jpg   6  null  null  null  null\n"
        )
        server.tricks["/1/0.jpg"] = [("redirect", f"{server.url}/pw/images/en-us/photo_unavailable.png")]
        server.files["/pw/images/en-us/photo_unavailable.png"] = jpeg(0)
        server.files["/1/1.jpg"] = jpeg(1, "GIF")
        server.tricks["/1/3.jpg"] = [("status", 404, {})]
        told = self.get(sandbox)
        assert sorted(self.gone(sandbox).splitlines()) == [
            "path,reason", "sky/0.jpg,HTTP 410", "sky/1.jpg,HTTP 410", "sky/3.jpg,HTTP 404", "sky/6.jpg,no URL",
        ]  # fmt: skip
        assert "0 were there, 1 fetched, 4 gone" in told and "1 not listed in" in told

        asked = len(server.asked)
        assert "1 were there, 0 fetched, 4 gone" in self.get(sandbox) and len(server.asked) == asked
        assert "1 were there, 2 fetched, 2 gone" in self.get(sandbox, replace(QUICK, retry_gone=True))
        self.get(sandbox)
        assert sorted(self.gone(sandbox).splitlines()) == ["path,reason", "sky/1.jpg,HTTP 410", "sky/6.jpg,no URL"]

    def test_other_sizes_stand_in(self, server, sandbox):
        sizes = {"large": f"{server.url}/1/0_b.jpg", "small": f"{server.url}/1/0_m.jpg"}
        (sandbox.folder / "urls.txt").write_text(HEAD + self.line(server.url, 0, **sizes))
        del server.files["/1/0.jpg"]
        server.files["/1/0_m.jpg"] = jpeg(5)
        self.get(sandbox)
        assert [path for path, _, _ in server.asked] == ["/1/0.jpg", "/1/0_b.jpg", "/1/0_m.jpg"]
        assert self.photo(sandbox, 0).read_bytes() == server.files["/1/0_m.jpg"]

    def test_keeps_images_and_replaces_what_is_none(self, server, sandbox):
        self.photo(sandbox, 0).parent.mkdir()
        self.photo(sandbox, 0).write_bytes(jpeg(77))
        self.photo(sandbox, 1).write_bytes(b"cut")
        assert "1 were there, 5 fetched" in self.get(sandbox)
        assert self.photo(sandbox, 0).read_bytes() == jpeg(77)
        assert self.photo(sandbox, 1).read_bytes() == server.files["/1/1.jpg"]

    def test_trouble_is_not_taken_for_gone(self, server, sandbox):
        server.tricks["/1/0.jpg"] = [("status", 500, {})] * 3
        server.tricks["/1/1.jpg"] = [("cut", 100)] * 3
        server.tricks["/1/3.jpg"] = [("status", 403, {})]
        server.files["/1/4.jpg"] = b"<html>log in</html>"
        told = self.get(sandbox)
        assert "2 fetched, 4 failed (the same command tries them again)" in told
        for reason in ("HTTP 500", "ended early", "HTTP 403", "not an image, or a broken one"):
            assert reason in told
        assert self.gone(sandbox) == "path,reason\n" and not self.photo(sandbox, 1).exists()
        server.files["/1/4.jpg"] = jpeg(4)
        assert "2 were there, 4 fetched" in self.get(sandbox)

    def test_all_threads_heed_retry_after(self, server, sandbox):
        server.tricks["/1/0.jpg"] = [("status", 429, {"Retry-After": "1"})]
        assert "6 fetched" in self.get(sandbox, replace(QUICK, connections=2, pause=0.05))
        refused = next(when for path, _, when in server.asked if path == "/1/0.jpg")
        assert all(when >= refused + 0.9 for _, _, when in server.asked if when > refused + 0.2)
        assert max(when for _, _, when in server.asked) >= refused + 0.9

    def test_few_at_a_time_and_paced(self, server, sandbox):
        self.get(sandbox, replace(QUICK, pause=0.1))
        moments = sorted(when for _, _, when in server.asked)
        assert moments[-1] - moments[0] >= 0.4  # six requests, five pauses; the last may be late

    def test_stops_where_nothing_comes_any_more(self, server, sandbox):
        with pytest.raises(DownloadError, match="4 photos failed one after the other, the last one sky/") as raised:
            self.get(sandbox, replace(QUICK, mirror="http://127.0.0.1:1", failures=4))
        assert "--mirror https://live.staticflickr.com" in raised.value.remedy
        assert self.gone(sandbox) == "path,reason\n"

    def test_a_mirror_has_the_same_paths(self, server, sandbox):
        (sandbox.folder / "urls.txt").write_text(HEAD + self.line("http://farm3.static.flickr.example", 0))
        assert "1 fetched" in self.get(sandbox, replace(QUICK, mirror=f"{server.url}/"))

    def test_a_line_that_a_kill_cut_does_no_harm(self, server, sandbox):
        file = sandbox.folder / "data" / "nuswide" / "gone.csv"
        file.write_text("path,reason\nsky/0.jpg,HTTP 404\nsky/1.j")
        assert "5 fetched, 1 gone" in self.get(sandbox)
        assert self.gone(sandbox) == "path,reason\nsky/0.jpg,HTTP 404\n"

    def test_an_interruption_keeps_what_came(self, server, sandbox):
        class Interrupting(Notes):
            def bar(self, what, total, unit):
                return _Interrupting()

        root, urls = sandbox.folder / "data" / "nuswide", sandbox.folder / "urls.txt"
        server.files["/1/1.jpg"] += bytes(12_000)  # four blocks: the interruption comes while it is fetched
        server.tricks["/1/1.jpg"] = [("slow", 0.15)]
        with pytest.raises(KeyboardInterrupt) as held:
            one_by_one = replace(QUICK, connections=1)
            nuswide_photos.download(root, {"sky/0.jpg", "sky/1.jpg", "sky/3.jpg"}, urls, one_by_one, Interrupting())
        time.sleep(0.8)
        assert "/1/3.jpg" not in [path for path, _, _ in server.asked], "it stops"
        assert held.traceback, "what the command line holds while it ends: garbage collection must not be what stops it"
        assert self.photo(sandbox, 0).read_bytes() == server.files["/1/0.jpg"]
        self.get(sandbox)
        assert self.photo(sandbox, 7).exists()

    @pytest.mark.parametrize("text", ["", "a.jpg\n", "<html>not found</html>\n"])
    def test_refuses_another_list(self, sandbox, text):
        (sandbox.folder / "urls.txt").write_text(text)
        with pytest.raises(DatasetError, match=r"urls\.txt has no line of the form FILE\.jpg ID"):
            self.get(sandbox)

    def test_no_such_list(self, sandbox):
        result = sandbox.run("data", "nuswide", "--download", sandbox.folder / "nothing.txt")
        assert result.exit_code == 1 and "nothing.txt cannot be read: No such file" in result.stderr


class _Interrupting:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, n=1):
        raise KeyboardInterrupt


def test_paths_of_the_list(tmp_path):
    (tmp_path / "urls.txt").write_text(
        HEAD
        + r"C:\ImageData\Flickr\actor\0001_2124494179.jpg   2124494179  "
        + "".join(f"http://farm3.static.flickr.com/2244/2124494179{size}.jpg  " for size in ("_b", "", "_m"))
        + "null\n"
        r"C:\ImageData\Flickr\two words\0002_1.jpg 1 null file:///etc/passwd null null" + "\n"
        r"C:\ImageData\..\0003_1.jpg 1 null http://x/1.jpg null null" + "\n"
    )
    wanted = {"actor/0001_2124494179.jpg", "two words/0002_1.jpg", "../0003_1.jpg"}
    photos = list(nuswide_urls.read_urls(tmp_path / "urls.txt", wanted))
    assert [(photo.path, [url.rsplit("/", 1)[1] for url in photo.urls]) for photo in photos] == [
        ("actor/0001_2124494179.jpg", ["2124494179.jpg", "2124494179_b.jpg", "2124494179_m.jpg"]),
        ("two words/0002_1.jpg", []),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nuswide", "--download"), "labeldep data nuswide --download NUS-WIDE-urls.txt"),
        (("coco", "--download", "urls.txt"), "URLS does not go with coco"),
        (("coco", "urls.txt"), "URLS is only for --download"),
        (("coco", "--mirror", "http://x"), "--mirror is only for --download"),
        (("nuswide", "--download", "urls.txt", "--keep-archives"), "--keep-archives does not go with nuswide"),
        (("coco", "--download", "--retry-gone"), "--retry-gone does not go with coco"),
        (("scenes", "--download"), "'scenes' cannot be downloaded"),
        (("coco", "--download", "--mirror", "ftp://x"), "'ftp://x' is not an http:// or https:// URL"),
    ],
)
def test_wrong_usage(tmp_path, words, told):
    result = Sandbox(tmp_path).run("data", *words)
    assert result.exit_code == 2
    assert told in " ".join(re.sub(r"[│╭╰─╮╯]", " ", result.stderr).split())


class TestPublished:
    """The counts that a whole data set has, on the real labels."""

    def dataset(self, shared_data, name, files, change=lambda y: y):
        from labeldep_cli.datasets.label_space import LabelSpace
        from labeldep_cli.datasets.split import Dataset, Split

        splits = {}
        for split, file in files.items():
            labels = change(np.load(shared_data / "labels" / f"{file}.npz")["Y"].astype(np.int8)) if file else None
            labels = np.zeros((0, 80), dtype=np.int8) if labels is None else labels[labels.any(axis=1)]
            space = LabelSpace(tuple(f"l{n}" for n in range(labels.shape[1])))
            splits[split] = Split(split, tuple(map(str, range(len(labels)))), labels, space, Path())
        return Dataset(name, splits, named=True)

    def test_coco(self, shared_data):
        files = {"train": "coco_train2014", "val": None, "test": "coco_val2014"}
        assert published.compare_with_published(self.dataset(shared_data, "coco", files)) == (
            "train2014: all 82,081 published images with labels, 2.94 labels an image",
            "val2014: all 40,137 published images with labels, 2.90 labels an image",
        )

    def test_other_annotations(self, shared_data):
        def fewer(labels):
            labels[:, 0] &= labels.sum(axis=1) == 1
            return labels

        files = {"train": "coco_train2014", "val": None, "test": "coco_val2014"}
        first, _ = published.compare_with_published(self.dataset(shared_data, "coco", files, fewer))
        assert "other annotations" in first and "82,081 images with 2." in first

    def test_nuswide(self, nuswide_folder, draw):
        from labeldep_cli.datasets import nuswide

        whole = "NUS-WIDE: all 209,347 published images with labels, 2.41 labels an image"
        assert published.compare_with_published(nuswide.load(nuswide_folder, draw)) == (whole,)

    def test_a_users_own_is_compared_with_nothing(self, shared_data):
        files = {"train": "coco_train2014", "val": None, "test": "coco_val2014"}
        assert published.compare_with_published(self.dataset(shared_data, "pets-123456", files)) == ()
