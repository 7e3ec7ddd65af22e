"""A process that is killed is missed, whatever the others wait in; and gloo goes the way that the processes met."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch.distributed as dist

from benchmark.runtime import failures, lifelines
from benchmark.runtime.lifelines import Lifelines, interface_of
from benchmark.runtime.process import Process
from tests.benchmark import ranks


def _one_is_killed(this: Process, killed: int) -> None:
    """The others wait where nothing but their own thread wakes them, as in a collective of NCCL's."""
    failures.GRACE_SECONDS = 1.0
    this.barrier()
    if this.rank == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


@pytest.mark.parametrize("killed", [0, 1])
def test_one_that_is_killed_ends_the_others(killed: int, capfd: pytest.CaptureFixture[str]) -> None:
    codes = ranks.together(3, partial(_one_is_killed, killed=killed))
    assert codes == [-signal.SIGKILL if rank == killed else 1 for rank in range(3)]
    told = capfd.readouterr().err
    cause = "the first process has ended" if killed == 0 else f"process {killed} of 3: {failures.LOST}"
    assert told.count(f"ended, since another process has: {cause}") == 2


def _one_is_killed_in_a_sum(this: Process) -> None:
    if this.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    this.all_reduce_max(0)


def test_one_that_is_killed_is_the_cause_that_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert ranks.together(2, _one_is_killed_in_a_sum) == [1, -signal.SIGKILL]
    assert f"process 0 of 2: ended by process 1 of 2: {failures.LOST}" in capfd.readouterr().err


def _tied(world_size: int) -> list[Lifelines]:
    store = dist.HashStore()
    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(lambda rank: Lifelines.tie(store, "127.0.0.1", rank, world_size), range(world_size)))


def test_goodbye_is_no_loss_and_silence_is() -> None:
    first, second, third = _tied(3)
    assert [sorted(one.ends.values()) for one in (first, second, third)] == [[1, 2], [0], [0]]
    assert first.lost() is None
    second.untie()
    next(iter(third.ends)).close()
    assert {first.lost(), first.lost()} == {None, 2}
    assert not first.ends


def test_nobody_but_a_process_of_the_job_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifelines, "JOIN_SECONDS", 20.0)
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Lifelines.tie, store, "127.0.0.1", 0, 2)
        port = int(store.get("lifelines").decode().split()[0])
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.shutdown(socket.SHUT_WR)
            second = Lifelines.tie(store, "127.0.0.1", 1, 2)
        assert list(first.result().ends.values()) == [1]
    second.untie()
    first.result().untie()


def test_the_address_is_one_that_is_good_from_other_machines() -> None:
    assert lifelines._reachable(["127.0.0.1", "10.1.2.3", "127.0.1.1"]) == "10.1.2.3"
    assert lifelines._reachable(["127.0.1.1", "127.0.0.1"]) == "127.0.1.1"
    assert interface_of("127.0.1.1") == interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None  # nobody's, kept for documents
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.connect(("192.0.2.1", 9))  # sends nothing: asks for the way
    own = probe.getsockname()[0]
    probe.close()
    assert interface_of(own) in [name for _, name in socket.if_nameindex()]


def _interface(this: Process) -> None:
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    assert this.all_gather(this.rank) == [0, 1]


def test_gloo_goes_by_the_address_where_the_processes_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert ranks.together(2, _interface) == [0, 0]
