"""Ctrl-C and SIGTERM: heard within a step, an iteration of a solver or a read of a download; twice ends the command.

In processes of their own, forked from this one, which signal themselves at a place in the work: what is counted is the
work that is done after the signal, which does not depend on the machine.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import cli
from benchmark.data import DataSpec
from benchmark.networks.base import Job
from benchmark.probes import training
from benchmark.probes.classifiers import Logistic
from benchmark.probes.linear import Linear
from benchmark.probes.subject import AllStopped, Features
from benchmark.running.runner import data_loader
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted, Requests, stop_requests
from benchmark.runtime.spec import Execution
from benchmark.suite.expand import load_suite
from benchmark.suite.run import compose
from tests.benchmark import ranks
from tests.benchmark.probes.subjects import make_subject, of_features, small_network, striped

Work = Callable[[Requests], Any]


def ended_by_a_signal(tmp_path: Path, work: Work, number: int = signal.SIGINT) -> Any:
    """What ``work`` returns once it was interrupted; it signals its own process."""
    told = tmp_path / "told.json"

    def child(this: Process) -> None:
        with stop_requests() as requests:
            found = work(requests)
        told.write_text(json.dumps({"found": found, "suite": requests.suite_must_end}))

    assert ranks.together(1, child) == [0]
    answer = json.loads(told.read_text())
    assert answer["suite"] == (number == signal.SIGTERM)
    return answer["found"]


class Counted:
    """Calls of a function: signals this process at the third one, and says how many came after it."""

    def __init__(self, function: Callable[..., Any], number: int = signal.SIGINT) -> None:
        self.function, self.number, self.calls = function, number, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == 3:
            os.kill(os.getpid(), self.number)
        return self.function(*arguments, **options)

    def method(self) -> Callable[..., Any]:
        """To be put in a method's place."""
        return lambda *arguments, **options: self(*arguments, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_linear_probe_of_100_000_epochs_ends_with_the_step(tmp_path: Path, number: int) -> None:
    def work(requests: Requests) -> int:
        counted = Counted(training.backward, number)
        training.backward = counted  # type: ignore[assignment]
        subject = make_subject(small_network(), striped(), tmp_path, requests=requests)
        with pytest.raises(AllStopped):
            Linear(linear_epochs=100_000, batch_size=16).measure(subject)
        state = make_subject(small_network(), striped(), tmp_path).resumed()
        assert state is not None
        return counted.calls - state["step"]

    assert ended_by_a_signal(tmp_path, work, number) == 0, "the step of the signal is the last"


def test_logistic_regression_ends_with_the_solvers_iteration(tmp_path: Path) -> None:
    from sklearn.linear_model._linear_loss import LinearModelLoss

    draws = torch.Generator().manual_seed(0)
    bank = Features(torch.randn(300, 20, generator=draws), torch.arange(300) % 3)

    def work(requests: Requests) -> int:
        counted = Counted(LinearModelLoss.loss_gradient)
        LinearModelLoss.loss_gradient = counted.method()
        subject = replace(of_features(bank, bank, tmp_path), requests=requests)
        with pytest.raises(Interrupted):
            Logistic(logistic_c=1e9).measure(subject)
        return counted.calls

    assert ended_by_a_signal(tmp_path, work) == 3


def test_the_fit_of_kernel_simclr_ends_with_the_solvers_iteration(tmp_path: Path) -> None:
    from methods.regime.simclr import InfoNCE

    regime = {"kernel": {"gamma": 20.0}, "basis": "exact", "relation": "neighbours", "n_neighbors": 5, "ridge": 1e-3}
    settings = {"method": "kernel_simclr", "data": {"source": "spirals"}, "regime": regime, "loss": {"max_iter": 10**6}}
    network = compose(settings, lambda data: data).network

    def work(requests: Requests) -> int:
        counted = Counted(InfoNCE.value_and_share)
        InfoNCE.value_and_share = counted.method()  # type: ignore[method-assign]
        execution = Execution()
        job = Job(tmp_path, Process(torch.device("cpu")), requests, execution)
        data = data_loader(execution, tmp_path, job.process, requests, print)
        with pytest.raises(Interrupted):
            network.make(data(network.data), job)  # type: ignore[attr-defined]
        return counted.calls

    assert ended_by_a_signal(tmp_path, work) == 3
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.fixture
def endless() -> Iterator[tuple[str, threading.Event]]:
    """A server whose files never end; the event is set once it has sent the beginning of one."""
    begun, over, signalled = threading.Event(), threading.Event(), threading.Lock()

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(10**9))
            self.end_headers()
            self.wfile.write(b"x" * 4096)
            self.wfile.flush()
            if signalled.acquire(blocking=False):  # torchvision asks twice, for redirections first: one Ctrl-C is meant
                os.kill(int(self.path.split("/")[1]), signal.SIGINT)
            begun.set()
            over.wait()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", begun
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_download_ends_while_nothing_comes(tmp_path: Path, endless: tuple[str, threading.Event]) -> None:
    from torchvision.datasets import MNIST

    address, begun = endless

    def work(requests: Requests) -> str:
        MNIST.mirrors = [f"{address}/{os.getpid()}/"]
        execution, alone = Execution(download=True, data_root=str(tmp_path / "data")), Process(torch.device("cpu"))
        data = data_loader(execution, tmp_path, alone, requests, print)
        try:
            data(DataSpec(source="mnist"))
        except Interrupted:
            return "interrupted"
        except UserError as error:
            return str(error)
        return "read"

    assert ended_by_a_signal(tmp_path, work) == "interrupted"
    assert begun.is_set()


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_run_and_twice_the_command(tiny: Path, tmp_path: Path, times: int) -> None:
    """At a step of the linear probe of the first of two networks."""
    suite = load_suite(str(tiny), ["evaluation.probes=[linear]", "epochs=1", "evaluation.linear_epochs=4"])
    whole = training.backward

    def backward(*arguments: Any) -> None:
        training.backward = whole
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        whole(*arguments)

    def child(this: Process) -> None:
        training.backward = backward
        finished = cli.execute(suite, tmp_path / "runs", retry=False, quiet=True)
        raise SystemExit(10 + bool(finished))

    assert ranks.together(1, child) == [10 if times == 1 else 130]
    found = {path.parts[-3].partition("-")[0]: path for path in (tmp_path / "runs").glob("*/measurements/*.json")}
    statuses = {method: json.loads(path.read_text())["status"] for method, path in found.items()}
    assert statuses == ({"sfrik_l2": "interrupted", "vicreg": "done"} if times == 1 else {})


def test_a_second_ctrl_c_ends_the_command_though_another_run_has_begun(tiny: Path, tmp_path: Path) -> None:
    suite = load_suite(str(tiny), ["evaluation.probes=[linear]", "epochs=1", "evaluation.linear_epochs=4"])
    whole = training.backward

    def backward(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        whole(*arguments)

    def child(this: Process) -> None:
        training.backward = backward
        cli.execute(suite, tmp_path / "runs", retry=False, quiet=True)

    assert ranks.together(1, child) == [130]
    found = sorted((tmp_path / "runs").glob("*/measurements/*.json"))
    assert [(path.parts[-3].partition("-")[0], json.loads(path.read_text())["status"]) for path in found] == [
        ("sfrik_l2", "interrupted")
    ]


# ---- requests by themselves


def test_a_request_raises_at_once_inside_and_only_there() -> None:
    requests = Requests()
    requests.ask(suite=False)
    with pytest.raises(Interrupted), requests.at_once():
        raise AssertionError("one that came before raises before the body")
    requests.next_run()
    with requests.at_once(), requests.at_once():
        pass
    requests.ask(suite=False)
    requests.next_run()
    with pytest.raises(Interrupted), requests.at_once():
        requests.ask(suite=False)
    requests.ask(suite=False)


def test_it_raises_once_so_that_what_ends_can_still_save() -> None:
    requests, saved = Requests(), []

    def work() -> None:
        try:
            requests.ask(suite=False)
        finally:
            requests.ask(suite=True)
            saved.append(1)

    with pytest.raises(Interrupted), requests.at_once():
        work()
    assert saved
    assert requests.suite_must_end


def test_the_next_run_begins_unless_the_suite_must_end() -> None:
    requests = Requests()
    requests.ask(suite=False)
    requests.next_run()
    requests.check()
    requests.ask(suite=True)
    requests.next_run()
    with pytest.raises(Interrupted):
        requests.check()


def test_a_loading_process_leaves_signals_to_the_one_that_loads(tmp_path: Path, capfd: Any) -> None:
    """Ctrl-C on a terminal reaches all of them: it is told once, and they go on until they are ended."""

    def child(this: Process) -> None:
        with stop_requests() as requests:
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                os._exit(7 if not requests.run_must_end else 8)
            _, status = os.waitpid(pid, 0)
        raise SystemExit(os.waitstatus_to_exitcode(status))

    assert ranks.together(1, child) == [7]
    assert "interrupted" not in capfd.readouterr().out
