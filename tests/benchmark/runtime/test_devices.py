"""Which device a process takes, and what is said where it can take none. torch is told of GPUs that are not there."""

from __future__ import annotations

import pytest
import torch

from benchmark.runtime import devices
from benchmark.runtime.devices import check_apart, given_gpus, gpu_fault, own_gpu, resolve_device
from benchmark.runtime.errors import UserError

_VARIABLES = ("LOCAL_RANK", "SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def _of_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)


def _seen(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)


@pytest.mark.parametrize(("rank", "seen", "own"), [(0, 1, 0), (0, 8, 0), (3, 8, 3), (3, 1, 0)])
def test_a_task_takes_the_gpu_of_its_rank_or_the_one_bound_to_it(
    monkeypatch: pytest.MonkeyPatch, rank: int, seen: int, own: int
) -> None:
    _seen(monkeypatch, seen)
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", own)
    assert resolve_device("cpu") == torch.device("cpu")


def test_tasks_and_gpus_that_do_not_go_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="task 3 of this node sees 2 GPUs: each task must see one of its own, or all"):
        own_gpu(3, 2)
    check_apart([("a", "1"), ("a", "2"), ("b", "1")])
    with pytest.raises(UserError, match="2 processes would share GPU 2 of a: start one for each GPU"):
        check_apart([("a", "1"), ("a", "2"), ("a", "2")])
    _seen(monkeypatch, 2)
    with pytest.raises(UserError, match="'cuda:2', but this process sees 2 CUDA devices"):
        resolve_device("cuda:2")
    with pytest.raises(UserError, match="must be auto, cpu, cuda or cuda:N"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        ({}, ""),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "1,3"}, "1,3"),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, ""),  # of the shell that it was sent from
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "2"}, "2"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "2,3", "SLURM_STEP_GPUS": "3"}, "3"),
    ],
)
def test_a_job_that_was_given_gpus_never_computes_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: str
) -> None:
    _seen(monkeypatch, 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert given_gpus() == given
    if not given:
        assert resolve_device("auto") == torch.device("cpu")
        return
    with pytest.raises(UserError, match=r"no GPU can be used: torch .*; --set device=cpu computes without"):
        resolve_device("auto")


def test_a_fault_names_torch_its_build_and_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(torch.cuda, "init", refuse)
    monkeypatch.setattr(torch.version, "cuda", "99.1")
    monkeypatch.setattr(devices, "driver", lambda: "driver 123.4")
    assert gpu_fault() == f"torch {torch.__version__}, built for CUDA 99.1, driver 123.4: no kernel image is available"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu_fault() == f"torch {torch.__version__} was built without CUDA"
