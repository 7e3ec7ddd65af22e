"""The storage counter against cases counted by hand (float32: 4 bytes an entry)."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.runtime.memory import PeakMemory, _Allocator, is_out_of_memory

N, D = 32, 48
MATRIX = 4 * N * D


def live_bytes(memory: PeakMemory) -> int:
    """Live now, less what lived at the start: negative where more was freed than made."""
    return memory._counter.live - memory.baseline_bytes


def matrix() -> Tensor:
    return torch.ones(N, D)


def test_nothing_done_costs_nothing() -> None:
    with PeakMemory() as memory:
        pass
    assert (memory.baseline_bytes, memory.peak_bytes, live_bytes(memory)) == (0, 0, 0)


def test_matmul_chain() -> None:
    a_ND, b_DM, c_MK = torch.ones(N, D), torch.ones(D, 16), torch.ones(16, 8)
    with PeakMemory() as memory:
        product_NK = a_ND @ b_DM @ c_MK  # (N, 16) lives while (N, 8) is made, and is freed
    assert memory.peak_bytes == 4 * N * (16 + 8)
    assert live_bytes(memory) == 4 * N * 8 == product_NK.untyped_storage().nbytes()


def test_freed_temporaries_are_subtracted() -> None:
    x_ND = matrix()
    with PeakMemory() as memory:
        for _ in range(5):
            x_ND = x_ND + 1  # never more than the old and the new one, and the first one is older than the block
    assert memory.peak_bytes == 2 * MATRIX
    assert live_bytes(memory) == MATRIX


def test_a_view_costs_nothing_and_keeps_its_base() -> None:
    with PeakMemory() as memory:
        base_ND = torch.zeros(N, D)
        row_D = base_ND.T.reshape(D, N)[0].view(2, -1)
        del base_ND
        assert live_bytes(memory) == MATRIX
        del row_D
    assert memory.peak_bytes == MATRIX
    assert live_bytes(memory) == 0


def test_in_place_is_not_counted_twice() -> None:
    older_ND = matrix()
    with PeakMemory() as memory:
        younger_ND = torch.zeros(N, D)
        younger_ND.add_(older_ND).mul_(2).sqrt_()
        older_ND.add_(younger_ND)
        torch.exp(younger_ND, out=older_ND)
        older_ND[0].zero_()
    assert memory.peak_bytes == live_bytes(memory) == MATRIX


def test_growing_in_place_is_counted() -> None:
    with PeakMemory() as memory:
        x_N = torch.zeros(N)
        x_N.resize_(N * D)
    assert memory.peak_bytes == live_bytes(memory) == MATRIX


def test_a_tensor_from_python_numbers_is_counted() -> None:
    with PeakMemory() as memory:
        x_N = torch.tensor([1.0] * N)
    assert live_bytes(memory) == x_N.untyped_storage().nbytes() == 4 * N


def test_several_outputs_are_counted() -> None:
    x_ND = matrix()
    with PeakMemory() as memory:
        values_N, indices_N = x_ND.max(dim=1)
    assert live_bytes(memory) == 4 * N + 8 * N == values_N.nbytes + indices_N.nbytes


def test_what_autograd_saves_lives_until_backward() -> None:
    x_ND = matrix().requires_grad_()
    with PeakMemory() as memory:
        loss = x_ND.exp().exp().sum()
        assert live_bytes(memory) == 2 * MATRIX + 4  # each exp saves its result; the sum saves nothing
        loss.backward()
    # The sum's gradient is a broadcast scalar: exp, exp, and the two gradients of the chain.
    assert memory.peak_bytes == 3 * MATRIX + 8
    del loss
    gc.collect()
    assert live_bytes(memory) == MATRIX  # x.grad


def test_without_grad_nothing_is_saved() -> None:
    x_ND = matrix().requires_grad_()
    with PeakMemory() as memory, torch.no_grad():
        x_ND.exp().exp().exp().sum()
    assert memory.peak_bytes == 2 * MATRIX


class InsideOut(torch.autograd.Function):
    """Makes three matrices forward (one saved) and two backward, all of them inside one Function."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor) -> Tensor:
        first, second, third = x_ND + 1, x_ND + 2, x_ND + 3
        ctx.save_for_backward(first)
        return (second[0, 0] + third[0, 0]).clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (saved,) = ctx.saved_tensors
        return (saved * 2) * gradient


def test_inside_of_a_custom_function_is_counted() -> None:
    x_ND = matrix().requires_grad_()
    with PeakMemory() as forward:
        loss = InsideOut.apply(x_ND)
    with PeakMemory() as backward:
        loss.backward()
    assert forward.peak_bytes == 3 * MATRIX + 4 + 4  # three matrices, the sum of two entries and its clone
    assert backward.peak_bytes == 2 * MATRIX + 4  # the two products and the seed gradient


def test_baseline_of_module_and_optimizer() -> None:
    layer = nn.Linear(D, N)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    weights = 4 * (N * D + N)
    layer(torch.ones(2, D)).sum().backward()
    optimizer.step()
    with PeakMemory(layer, optimizer, layer.weight) as memory:
        pass
    assert memory.baseline_bytes == 3 * weights  # parameters, gradients, momentum; the weight is named twice


def test_freeing_the_baseline_is_subtracted() -> None:
    layer = nn.Linear(D, N)
    layer(torch.ones(2, D)).sum().backward()
    with PeakMemory(layer) as memory:
        layer.zero_grad()
        assert live_bytes(memory) == -4 * (N * D + N)
        kept_ND = torch.zeros(N, D)
    assert memory.peak_bytes == 0
    assert live_bytes(memory) == -4 * N == kept_ND.nbytes - 4 * (N * D + N)


def test_first_optimizer_step_makes_its_state() -> None:
    layer = nn.Linear(D, N, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, foreach=False)
    layer(torch.ones(2, D)).sum().backward()
    with PeakMemory(layer, optimizer) as memory:
        optimizer.step()
    assert live_bytes(memory) == memory.peak_bytes == MATRIX  # the momentum, a copy of the gradient


def training_step(batch: int) -> PeakMemory:
    model = nn.Sequential(nn.Linear(D, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, N))
    optimizer = torch.optim.AdamW(model.parameters())
    images = torch.ones(batch, D)
    with PeakMemory(model, optimizer, images) as memory:
        model(images).square().mean().backward()
        optimizer.step()
    return memory


def test_fake_tensors_predict_the_real_step() -> None:
    real = training_step(batch=256)
    with FakeTensorMode():
        fake = training_step(batch=256)
    assert (fake.baseline_bytes, fake.peak_bytes) == (real.baseline_bytes, real.peak_bytes)


def test_fake_tensors_of_any_size_and_inside_the_block() -> None:
    with PeakMemory() as memory, FakeTensorMode():
        huge = torch.empty(2**20, 2**20) + 1
    assert memory.peak_bytes == 2 * 2**42
    assert live_bytes(memory) == huge.nbytes


def test_blocks_nest() -> None:
    with PeakMemory() as outer:
        first_ND = torch.zeros(N, D)
        with PeakMemory() as inner:
            first_ND.exp()
    assert inner.peak_bytes == MATRIX
    assert outer.peak_bytes == 2 * MATRIX


class Allocator:
    """Stands for CUDA's account: live now, and the most since the peak was reset."""

    def __init__(self, live: int) -> None:
        self.live = self.peak = live

    def make(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)

    def reset(self, device: object) -> None:
        self.peak = self.live


def test_an_allocator_is_asked_for_the_runs_own_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, data_bytes = nn.Linear(D, N, bias=False), 10**9
    account = Allocator(data_bytes + MATRIX)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: account.live)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: account.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", account.reset)
    account.make(10**10)  # an earlier run, which let go what it had
    account.make(-(10**10))
    outer = PeakMemory()
    outer._counter = _Allocator(torch.device("cpu"), (layer, layer.weight))
    with outer:
        account.make(3000)
        inner = PeakMemory()
        inner._counter = _Allocator(torch.device("cpu"), ())
        with inner:
            account.make(500)
            account.make(-500)
        account.make(-3000 - MATRIX)
        assert live_bytes(outer) == -MATRIX, "freeing what was named is subtracted"
    assert (outer.baseline_bytes, outer.peak_bytes, outer.resident_bytes) == (MATRIX, 3500, data_bytes)
    assert (inner.baseline_bytes, inner.peak_bytes) == (0, 500)
    assert inner.resident_bytes == data_bytes + MATRIX + 3000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        dist.DistBackendError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
        MemoryError(),
    ],
    ids=str,
)
def test_whoever_allocates_an_error_for_want_of_memory_is_one(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemmEx`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_another_error_is_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.gpu
def test_the_allocator_agrees_with_the_counter_and_nests() -> None:
    x_ND = torch.ones(1024, 1024, device="cuda")
    with PeakMemory(device="cuda") as outer, PeakMemory() as storages:
        y_ND = x_ND + 1
        with PeakMemory(device="cuda") as inner:
            y_ND + 1
        x_ND.sin_()
    assert outer.peak_bytes == storages.peak_bytes == 2 * inner.peak_bytes == 2 * x_ND.nbytes
    assert live_bytes(outer) == x_ND.nbytes
