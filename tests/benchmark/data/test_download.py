"""One process downloads, the others wait; what a killed download left is no data set."""

from __future__ import annotations

import errno
import gzip
import hashlib
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import MNIST, Imagenette

from benchmark.data import DataSpec, load
from benchmark.runtime.errors import UserError
from tests.benchmark import layouts
from tests.patience import PATIENCE

PROCESSES = 3


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, bytes]:
    layouts.write_mnist(tmp_path / "stored")
    files = (tmp_path / "stored" / "MNIST" / "raw").iterdir()
    return {f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in files}


@pytest.fixture
def mirror(archives: dict[str, bytes], tmp_path: Path) -> Iterator[tuple[str, Counter[str]]]:
    """A server that answers once all processes have begun, and what it was asked for."""
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            asked[name] += 1
            until = time.monotonic() + PATIENCE
            while len(list(tmp_path.glob("started-*"))) < PROCESSES and time.monotonic() < until:
                time.sleep(0.05)
            self.send_response(200)
            self.send_header("Content-Length", str(len(archives[name])))
            self.end_headers()
            self.wfile.write(archives[name])

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_of_several_processes_one_downloads(
    archives: dict[str, bytes], mirror: tuple[str, Counter[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = mirror
    monkeypatch.setattr(MNIST, "mirrors", [url])
    resources = [[name, hashlib.md5(content).hexdigest()] for name, content in archives.items()]
    monkeypatch.setattr(MNIST, "resources", resources)

    def load_in(root: Path, place: int) -> None:
        (tmp_path / f"started-{place}").touch()
        data = load(DataSpec(source="mnist"), root, download=True)
        (tmp_path / f"loaded-{place}").write_text(str(len(data.test)))

    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=load_in, args=(tmp_path / "data", place)) for place in range(PROCESSES)]
    for process in running:
        process.start()
    for process in running:
        process.join(PATIENCE)
    assert [process.exitcode for process in running] == [0] * PROCESSES
    assert {path.read_text() for path in tmp_path.glob("loaded-*")} == {"40"}
    together = Counter(asked)
    asked.clear()
    load_in(tmp_path / "alone", PROCESSES)
    assert together == asked  # as of one process alone
    assert set(asked) == set(archives)


def test_what_a_killed_download_unpacked_is_not_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_imagenette(tmp_path)
    part = tmp_path / "imagenette2-160" / "train" / layouts.IMAGENETTE_CLASSES[0]
    for path in sorted(part.iterdir())[1:]:
        path.unlink()
    (tmp_path / ".imagenette.lock").write_text("downloading")
    spec = DataSpec(source="imagenette", image_size=16)
    with pytest.raises(UserError, match=r"a download of it was cut short \(remove .*\); get it with --download"):
        load(spec, tmp_path)

    def download(self: Imagenette) -> None:
        if not self._check_exists():
            layouts.write_imagenette(tmp_path)

    monkeypatch.setattr(Imagenette, "_download", download)
    data = load(spec, tmp_path, download=True)
    assert len(data.train) + len(data.tune) == 120
    assert len(load(spec, tmp_path).test) == 40


def test_a_download_that_fails_leaves_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Imagenette) -> None:
        layouts.write_class_folders(tmp_path / "imagenette2-160" / "train", ["part"], 1)
        raise OSError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(Imagenette, "_download", download)
    spec = DataSpec(source="imagenette", image_size=16)
    with pytest.raises(UserError, match=r"data set imagenette cannot be read from .*Connection reset by peer$"):
        load(spec, tmp_path, download=True)
    with pytest.raises(UserError, match="Dataset not found; get it with --download"):
        load(spec, tmp_path)
    layouts.write_imagenette(tmp_path)  # put there by hand
    assert len(load(spec, tmp_path).test) == 40


def test_a_file_system_without_locks_is_said_and_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def download(self: Imagenette) -> None:
        if not self._check_exists():
            layouts.write_imagenette(tmp_path)

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(Imagenette, "_download", download)
    with pytest.warns(UserWarning, match=r"imagenette\.lock cannot be locked \(No locks available\): let one process"):
        data = load(DataSpec(source="imagenette", image_size=16), tmp_path, download=True)
    assert len(data.test) == 40
