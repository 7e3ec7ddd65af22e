"""Every branch that only CUDA takes. The README says whether it was run.

``pytest -m gpu`` runs these, the allocator's account (`test_memory.py`), the figures of probes on a GPU
(`probes/test_probes.py`) and ``doctor --gpu`` (`slurm/test_first_hour.py`), which takes two GPUs where there are two.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.cost import checks, losses
from benchmark.cost.sweep import Cell, measure
from benchmark.data import Input, PixelImages, load
from benchmark.networks.base import Job, load_weights
from benchmark.networks.step import TrainingStep, synchronise_batch_norm
from benchmark.networks.trained import Trained
from benchmark.runtime.devices import check_usable, gpu_fault, resolve_device
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.numerics import computing_in, flags
from benchmark.runtime.process import Process, process
from benchmark.runtime.progress import StepClock
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.expand import load_suite
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader
from methods import registry
from methods.engine.matmul import _wide_product

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")


def test_a_gpu_is_found_usable_and_described() -> None:
    assert gpu_fault() == ""
    assert resolve_device("auto") == resolve_device("cuda") == GPU
    check_usable(GPU)
    with process("cuda") as this:
        record = provenance(this, now(), 1, 0.0)
    assert {"cuda", "cudnn", "nccl", "driver"} <= record.versions.keys()
    assert record.device == torch.cuda.get_device_name(GPU)
    assert (record.flags["matmul_tf32"], record.flags["cudnn_deterministic"]) == (False, True)


def test_fp32_is_exact_and_tf32_is_not() -> None:
    a, b = (torch.randn(1024, 1024, dtype=torch.float64) for _ in range(2))
    image, weights = torch.randn(4, 64, 16, 16, dtype=torch.float64), torch.randn(64, 64, 3, 3, dtype=torch.float64)
    pairs = {"product": (torch.mm, (a, b)), "convolution": (partial(nn.functional.conv2d, padding=1), (image, weights))}
    for compute, given in pairs.values():
        exact = compute(*given)
        errors = {}
        for precision in ("fp32", "tf32"):
            with computing_in(precision):  # type: ignore[arg-type]
                found = compute(*(tensor.float().cuda() for tensor in given)).double().cpu()
            errors[precision] = float((found - exact).norm() / exact.norm())
        assert errors["fp32"] < 1e-6
        if torch.cuda.get_device_capability() >= (8, 0):
            assert 1e-5 < errors["tf32"] < 1e-2
    assert flags(GPU)["convolution_tf32"]  # as torch comes, outside


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_products_are_summed_in_float32(dtype: torch.dtype) -> None:
    a, b = (torch.randn(64, 4096, device=GPU, dtype=dtype) for _ in range(2))
    found = _wide_product(a, b.T)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu().double(), a.cpu().double() @ b.cpu().double().T, rtol=1e-4, atol=1e-2)


def test_want_of_memory_is_told_as_such() -> None:
    free, _ = torch.cuda.mem_get_info(GPU)
    with pytest.raises(torch.OutOfMemoryError) as told:
        torch.empty(2 * free, dtype=torch.uint8, device=GPU)
    assert is_out_of_memory(told.value)


def test_a_clock_times_kernels_by_events() -> None:
    clock, a = StepClock(GPU), torch.randn(4096, 4096, device=GPU)
    for _ in range(4):
        clock.tick()
        a @ a
    clock.pause()
    assert len(clock.seconds) == 3
    assert all(seconds > 0 for seconds in clock.seconds)
    assert losses.timed(lambda: a @ a, GPU)[0] > 0


def test_views_lie_on_the_gpu_and_are_those_of_the_cpu() -> None:
    pixels = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    images = PixelImages(pixels, torch.zeros(64, dtype=torch.int64).numpy())
    made = {}
    for device in (CPU, GPU):
        input = Input(3, 32, (0.5,) * 3, (0.25,) * 3)
        loader = ViewLoader(images, recipe("simclr_small"), input, Process(device), batch_size=32, seed=0)
        made[device.type] = next(iter(loader.epoch(0)))
    for own, other in zip(made["cuda"].views, made["cpu"].views, strict=True):
        assert own.device == GPU
        assert own.shape == other.shape


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_training_step_runs_and_its_peak_is_its_own(precision: str, tiny: Path, tmp_path: Path) -> None:
    network = load_suite(str(tiny), ["method=vicreg", f"precision={precision}"]).cells[0].run.network
    assert isinstance(network, Trained)
    resident = torch.empty(2**28, dtype=torch.uint8, device=GPU)  # of an earlier run
    with process("cuda") as this, computing_in(network.precision):
        made = network.make(load(network.data, tmp_path), Job(tmp_path, this, Requests(), Execution()))
    assert made.cost.memory_counter == "cuda allocator"
    assert made.cost.resident_bytes is not None
    assert made.cost.resident_bytes >= resident.nbytes > (made.cost.peak_bytes_step or 0) > 0
    assert all(bool(tensor.isfinite().all()) for tensor in load_weights(tmp_path)[0].values())


def test_a_compiled_step_is_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # more are processes, which it leaves behind
    settings = ("method=vicreg", "embedding_dim=64", "batch_size=32", "precision=fp32", "seed=0", "projector.hidden=64")
    values = []
    for compiled in ("false", "true"):
        network = load_suite("cifar10", [*settings, f"compile={compiled}"]).cells[0].run.network
        assert isinstance(network, Trained)
        with warnings.catch_warnings(action="ignore"), computing_in("fp32"):
            step = TrainingStep(network, 3, Process(GPU))
            views = tuple(torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(v)) for v in (0, 1))
            values.append(step(tuple(view.to(GPU) for view in views)).value.item())
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_batch_normalisation_is_synchronised_by_torch_and_by_timm() -> None:
    plain = synchronise_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), GPU)
    assert isinstance(plain[1], nn.SyncBatchNorm)  # type: ignore[index]
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_efficientnet", num_classes=0)
    keys = model.state_dict().keys()
    synchronised = synchronise_batch_norm(model, GPU)
    assert synchronised.state_dict().keys() == keys
    assert any(type(module).__name__ == "SyncBatchNormAct" for module in synchronised.modules())


def test_cost_cells_are_measured() -> None:
    for scope in ("loss", "errors"):
        cell = Cell(scope=scope, method="vicreg", embedding_dim=256, batch_size=128, precision="bf16", device="cuda")
        record = measure(cell)
        assert record.status == "done"
        assert record.provenance.flags["half_precision_sums"] is False


@pytest.mark.parametrize("method", ["sfrik_l2", "sfrik_l3", "auh", "simclr", "spectral", "vicreg", "barlow_twins"])
def test_a_loss_reads_nothing_back(method: str) -> None:
    options = registry.get(method).resolve({}, 256)
    views = losses.draw_views(128, 256, torch.float32, GPU)
    registry.get(method).loss(views, **options)  # what is made once, and workspaces
    with warnings.catch_warnings(action="ignore"):  # the mode is told to be a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        registry.get(method).loss(views, **options).value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("check", [checks.losses, checks.overflow, checks.memory, checks.speed])
def test_the_checks_of_the_first_hour(check: object) -> None:
    assert callable(check)
    assert [row for row in check("cuda")["results"] if row["fine"] is False] == []
