"""Third-party files: nothing takes its place unless it is whole and what it should be."""

import hashlib
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emorl_lite.__main__ import main
from emorl_lite.base import paths as places
from emorl_lite.base.errors import UserError
from emorl_lite.data import downloads

pytestmark = pytest.mark.plain

HERE = "127.0.0.1"
BODY = b"a client,a reply\n" * 500


class Handler(BaseHTTPRequestHandler):
    """/whole gives the body, /half announces more than it sends, /gone is not there."""

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY) * (2 if self.path == "/half" else 1)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    made = ThreadingHTTPServer((HERE, 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://{HERE}:{made.server_port}"
    made.shutdown()


@pytest.fixture(scope="module")
def closed():
    """An address where nobody answers: the port is taken, so that no other program gets it, but nothing listens."""
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        yield f"http://{HERE}:{taken.getsockname()[1]}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path))
    return tmp_path


def offer(monkeypatch, url, digest):
    known = replace(downloads.SOURCES["pair"], url=url, sha256=digest, known=())
    monkeypatch.setitem(downloads.SOURCES, "pair", known)


def test_a_file_is_fetched_once_and_then_found(server, closed, cache, monkeypatch):
    offer(monkeypatch, f"{server}/whole", hashlib.sha256(BODY).hexdigest())
    file = downloads.fetch("pair")
    assert file.read_bytes() == BODY and file.is_relative_to(cache)
    monkeypatch.setitem(downloads.SOURCES, "pair", replace(downloads.SOURCES["pair"], url=f"{closed}/nowhere"))
    assert downloads.fetch("pair") == file, "a file that is there needs no network"
    assert downloads.find_file("pair.csv") == file


@pytest.mark.parametrize(
    "path, digest, message",
    [
        ("/whole", "0" * 64, "SHA-256"),
        ("/half", hashlib.sha256(BODY).hexdigest(), "stopped at"),
        ("/gone", "0" * 64, "404"),
    ],
)
def test_nothing_is_kept_of_a_transfer_that_went_wrong(server, cache, monkeypatch, path, digest, message):
    offer(monkeypatch, server + path, digest)
    with pytest.raises(UserError, match=message):
        downloads.fetch("pair", timeout=60)
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_no_network_is_said_in_one_line_with_where_to_put_the_file(closed, cache, monkeypatch, capsys):
    offer(monkeypatch, f"{closed}/pair.csv", "0" * 64)
    assert main(["data", "fetch", "pair"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "cannot be reached" in said and str(cache / "data" / "pair.csv") in said


def test_an_edited_file_is_neither_used_nor_overwritten(cache):
    file = cache / "data" / "pair.csv"
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    with pytest.raises(UserError, match="not that of pair"):
        downloads.fetch("pair")
    assert file.read_text() == "mine\n"


def test_a_gated_set_and_an_unknown_name_say_what_to_do(cache):
    with pytest.raises(UserError, match=r"accept its terms.*--data-path"):
        downloads.fetch("psych8k")
    with pytest.raises(UserError, match="expected one of pair, counsel-chat, epitome, psych8k"):
        downloads.fetch("redit")


def test_a_missing_set_says_how_to_get_it(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="python -m emorl_lite data fetch counsel-chat"):
        downloads.find_file("counselchat-data.csv")
    assert downloads.find_file("my own.csv") == Path("my own.csv"), "the reader of a file says itself that it is not there"
    (tmp_path / "pair.csv").write_text("here\n")
    assert downloads.find_file("pair.csv") == Path("pair.csv"), "a file in the working folder comes first"


def test_the_list_names_every_source(cache, capsys):
    assert main(["data"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in downloads.SOURCES) and said.count("not here") == len(downloads.SOURCES)
    assert main(["data", "fetch"]) == 2


def test_local_models_come_before_the_hub(cache, tmp_path):
    assert places.resolve("SmolLM2-135M-Instruct") == "SmolLM2-135M-Instruct"
    folder = cache / "models" / "SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)
    assert places.resolve("SmolLM2-135M-Instruct") == str(folder)
    assert places.resolve("someone/some-model") == "someone/some-model"
    assert places.resolve("") == ""
