"""The page over HTTP: it follows the files, keeps nothing and writes nothing."""

import html
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from results.report import serve
from results.report.content import content
from results.report.serve import Server
from tests.patience import PATIENCE

Make = Callable[..., Any]
Write = Callable[..., Path]


@contextmanager
def served(*places: Path) -> Iterator[Server]:
    with Server(places, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: Server, path: str, **headers: str) -> tuple[int, bytes, str | None]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.getheader("ETag")


def test_what_is_new_is_told_and_what_is_not_is_not_sent_again(make_record: Make, write_runs: Write) -> None:
    folder = write_runs([make_record()])
    with served(folder) as server:
        status, body, tag = get(server, "/content.json")
        assert (status, len(json.loads(body)["chapters"][0]["runs"])) == (200, 1)
        assert tag is not None
        assert get(server, "/content.json", If_None_Match=tag)[:2] == (304, b"")
        other = make_record(seed=1)
        other.write(folder / other.id)
        status, body, new = get(server, "/content.json", If_None_Match=tag)
        assert (status, len(json.loads(body)["chapters"][0]["runs"])) == (200, 2)
        assert new != tag


def test_records_are_read_once_for_the_page_and_once_for_each_change(
    make_record: Make, write_runs: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = write_runs([make_record()]), []
    monkeypatch.setattr(serve, "content", lambda places: read.append(places) or content(places))
    with served(folder) as server:
        page = get(server, "/")[1].decode()
        tag = html.unescape(re.findall(r'data-tag="([^"]*)"', page)[0])
        for seed in (1, 2):
            assert [get(server, "/content.json", If_None_Match=tag)[0] for _ in range(5)] == [304] * 5
            assert len(read) == seed
            make_record(seed=seed).write(folder / make_record(seed=seed).id)
            status, _, tag = get(server, "/content.json", If_None_Match=tag)
            assert (status, len(read)) == (200, seed + 1)


def test_a_network_that_trains_is_shown_with_its_curve_until_it_has_a_record(
    make_record: Make, write_runs: Write
) -> None:
    folder, record = write_runs([]), make_record()
    with served(folder) as server:
        assert json.loads(get(server, "/live.json")[1]) == {"under_way": []}
        empty = json.loads(get(server, "/content.json")[1])
        assert empty["chapters"] == []
        assert "no readable network.json" in empty["empty"]
        log = folder / record.id / "metrics.jsonl"
        log.parent.mkdir()
        log.write_text('{"step": 1, "total_steps": 9, "epoch": 0, "loss": 2.5, "terms": {}}\n{"step": 2, "lo')
        (own,) = json.loads(get(server, "/live.json")[1])["under_way"]
        assert (own["id"], own["step"], own["total_steps"], own["curve"]["values"]) == (
            record.id,
            1,
            9,
            {"loss": [2.5]},
        )
        record.write(folder / record.id)
        assert json.loads(get(server, "/live.json")[1]) == {"under_way": []}


def test_nothing_is_written_and_only_the_page_is_served(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    with served(digits) as server:
        status, body, _ = get(server, "/")
        assert status == 200
        assert b"connect-src 'self'" in body
        for path in ("/suite.json", "/../suite.json", "//etc/passwd", "/runs/"):
            assert get(server, path)[0] == 404
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


@pytest.mark.parametrize(("host", "status"), [("localhost:9", 200), ("[::1]:80", 200), ("evil.example:8321", 421)])
def test_another_name_that_points_here_is_refused(digits: Path, host: str, status: int) -> None:
    with served(digits) as server:
        assert get(server, "/live.json", Host=host)[0] == status


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_the_command_serves_until_it_is_interrupted_and_says_what_another_host_exposes(
    digits: Path, host: str, warned: bool
) -> None:
    command = [sys.executable, "-m", "benchmark", "report", str(digits), "--serve", "--host", host, "--port", "0"]
    root = Path(__file__).parents[3]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith(f"http://{host}:")
            child.send_signal(signal.SIGINT)
            _, error = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
    assert child.returncode == 0
    assert ("reads all of these runs" in error) == warned
