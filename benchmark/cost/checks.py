"""What ``doctor --gpu`` asks of a device in one process: losses, the scaler, memory, speed, and the cost model.

Each check is a function of a device's name that gives the JSON of its :class:`Result`s, for a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmark.cost import calibrate, steps
from benchmark.cost.losses import differentiated, draw_views, relative_error
from benchmark.cost.plan import plan
from benchmark.cost.sweep import Cell, _counted, no_such_form
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.devices import check_usable, gpu_fault, resolve_device
from benchmark.runtime.numerics import AUTOCAST, computing_in
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator
from benchmark.runtime.spec import Precision
from methods import registry

# The largest relative error of a gradient, in the Frobenius norm, against float64 on the CPU. There, where half
# precision is emulated, MMCR's are the largest: 1.5e-5 in fp32, 1.0 % in bf16, 0.13 % in fp16. On an H200, whose
# eigenvectors are less exact, VNE's dual form has 1.5e-4 in fp32.
ALLOWED: dict[Precision, float] = {"fp32": 5e-4, "tf32": 2e-2, "bf16": 3e-2, "fp16": 5e-3}
SHAPES = {"cpu": (48, 64), "cuda": (512, 1024)}  # N, D
FORMS = ("dual", "primal")
_KERNEL_SHAPES = {"cpu": ((128, 128),), "cuda": calibrate.SHAPES["cuda"]}
MEMORY_TOLERANCE = 0.1  # the allocator rounds, and cuDNN takes workspaces, of which a plan knows nothing
# A step of a suite: small where it is to be over in seconds.
_ON_CPU = ("data.source=digits", "data.image_size=null", "augmentation=grey", "backbone.name=small_cnn")
_SHAPES: dict[str, tuple[int, int, Precision]] = {"cuda": (2048, 256, "bf16"), "cpu": (64, 32, "fp32")}  # D, N
_SETTINGS: dict[str, tuple[str, ...]] = {
    "cuda": (),
    "cpu": (*_ON_CPU, "backbone.width=8", "projector.hidden=64", "workers=0"),
}


@dataclass(frozen=True)
class Result:
    """One line of the report: what was found of what, what is allowed, and whether it is; None: it is only told."""

    check: str
    what: str
    found: str
    allowed: str = ""
    fine: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


def _json(results: Iterable[Result]) -> dict[str, Any]:
    return {"results": [asdict(result) for result in results]}


def gpus() -> dict[str, Any]:
    """How many there are, and why they cannot be used; '' where they can."""
    return {"count": torch.cuda.device_count(), "fault": gpu_fault()}


def losses(device: str) -> dict[str, Any]:
    """Every registered loss in every form and precision against float64 on the CPU."""
    own, results = _usable(device), []
    for precision in ALLOWED:
        if precision == "tf32" and own.type != "cuda":
            continue
        with computing_in(precision):
            errors = {
                f"{method} {form}": gradient_error(method, form, precision, own)
                for method in registry.names()
                for form in forms_of(method)
            }
        worst, limit = max(errors, key=lambda name: errors[name]), ALLOWED[precision]
        what, found = f"{len(errors)} gradients in {precision}", f"off by at most {100 * errors[worst]:.2g} % ({worst})"
        fine = all(error <= limit for error in errors.values())
        results.append(Result("losses", what, found, f"{100 * limit:g} %", fine, errors))
    return _json(results)


def forms_of(method: str) -> tuple[str, ...]:
    """Those that may be asked for; the one that there is where there is no choice."""
    return tuple(form for form in FORMS if no_such_form(method, form) is None) or ("auto",)


def gradient_error(method: str, form: str, precision: Precision, device: torch.device) -> float:
    """Of a loss on the device against float64 on the CPU, on the same embeddings; infinite where it is not finite."""
    count, dim = SHAPES[device.type]
    loss, options = registry.get(method), registry.get(method).resolve({}, dim)
    if loss.draws:  # each device draws its own directions
        draws = torch.randn(dim, options.pop("slices"), generator=generator("doctor", method))
        options |= {"directions": draws}
    call, views = partial(loss.loss, form=form, **options), draw_views(count, dim, AUTOCAST[precision], device)
    _, exact = differentiated(call, [view.detach().cpu().double() for view in views])
    _, own = differentiated(call, views, precision)
    error = relative_error([found.cpu() for found in own], exact)
    return error if error < float("inf") else float("inf")  # NaN is no smaller than anything


def overflow(device: str) -> dict[str, Any]:
    """A step in fp16 whose gradients overflow is skipped, the scale halved until one goes through, which moves all."""
    own = _usable(device)
    with computing_in("fp16"):
        step, views = _step(own, "precision=fp16", "optimizer.name=sgd")
        for group in step.optimizer.param_groups:
            group["lr"] = 0.1
        step.scaler = torch.amp.GradScaler(own.type, init_scale=2.0**40)  # no gradient fits into fp16 below that
        before, sound = [param.detach().clone() for param in step.encoder.parameters()], True
        skipped, taken, moved = 0, 0, [False]
        # Of a residual branch that begins as nothing a first step moves the last scale alone, a second one the rest.
        while not all(moved) and skipped < 60 and taken < 3:
            scale = step.scaler.get_scale()
            step(views)
            overflowed, moved = step.scaler.get_scale() < scale, _moved(step, before)
            skipped, taken = skipped + overflowed, taken + (not overflowed)
            sound &= any(moved) == (taken > 0)
    finite = all(bool(param.isfinite().all()) for param in step.encoder.parameters())
    fine = sound and finite and all(moved) and skipped > 0 and step.scaler.get_scale() == 2.0 ** (40 - skipped)
    found = f"{skipped} steps skipped, then {taken} moved {sum(moved)} of {len(moved)} parameters"
    found += "" if sound and finite else "; a skipped one moved some" if finite else "; some are not finite"
    return _json([Result("scaler", "fp16 from a scale of 2^40", found, "skips, halves, goes on", fine)])


def _moved(step: TrainingStep, before: list[Tensor]) -> list[bool]:
    return [not torch.equal(old, new) for old, new in zip(before, step.encoder.parameters(), strict=True)]


def memory(device: str) -> dict[str, Any]:
    """The measured peak of a step beside the plan's."""
    own, results = _usable(device), []
    for method in ("sfrik_l3", "vicreg"):
        cell = _cell(own, method)
        network = cell.network()
        with computing_in(cell.precision):
            measured = _counted(steps.subjects(cell, own)["ours"], own).get("peak_bytes", 0)
        planned = plan(network, 1).peak_bytes
        found, allowed = f"{measured / 1e6:.4g} MB measured", f"{planned / 1e6:.4g} MB planned, within 10 %"
        fine = abs(measured / planned - 1) <= MEMORY_TOLERANCE
        details = {"measured": measured, "planned": planned}
        results.append(
            Result("memory", f"a step of {steps.described(network)}, {method}", found, allowed, fine, details)
        )
    return _json(results)


def speed(device: str) -> dict[str, Any]:
    """Images a second of the loader and of the step, side by side."""
    own = _usable(device)
    cell = _cell(own, "sfrik_l3")
    with computing_in(cell.precision):
        step = steps.subjects(cell, own)["ours"]()
        for _ in range(8):
            step()
        parts = step.parts(5)
    views = parts.pop("data")
    rates = {"views": cell.batch_size / views, "step": cell.batch_size / sum(parts.values())}
    found = f"{rates['views']:.0f} images a second from the loader, {rates['step']:.0f} through the step"
    return _json([Result("speed", steps.described(cell.network()), found, details={**rates, **parts})])


def cost_model(device: str) -> dict[str, Any]:
    """Both forms of losses: how much slower the model's choice is than the faster one, and this device's constants."""
    own = _usable(device)
    with computing_in("fp32"):
        found, measured = calibrate.measure(own, _KERNEL_SHAPES[own.type])
    slower = [choice.slower_than_best for choice in found]
    told = f"its choice is {median(slower):.2f}x the faster form's time, at most {max(slower):.2f}x"
    constants = f"; measured here: entry {measured.entry:.0f}, eigen {measured.eigen:.0f}"
    details = {"choices": [asdict(choice) for choice in found], **asdict(measured)}
    return _json([Result("cost model", f"{len(found)} losses and shapes", told + constants, details=details)])


def _usable(name: str) -> torch.device:
    device = resolve_device(name)
    check_usable(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _cell(device: torch.device, method: str) -> Cell:
    """A training step: of the suite cifar10 on a GPU, of a small network on the CPU."""
    dim, count, precision = _SHAPES[device.type]
    return Cell(
        scope="step",
        method=method,
        device=str(device),
        settings=_SETTINGS[device.type],
        embedding_dim=dim,
        batch_size=count,
        precision=precision,
    )


def _step(device: torch.device, *settings: str) -> tuple[TrainingStep, tuple[Tensor, ...]]:
    """One, and views of noise."""
    cell = _cell(device, "vicreg")
    network: Trained = cell.model_copy(update={"settings": (*cell.settings, *settings), "precision": "fp16"}).network()
    input, draws = steps.input_of(network), generator("doctor", "views")
    shape = (network.batch_size, input.channels, input.image_size, input.image_size)
    views = tuple(torch.randn(shape, generator=draws).to(device) for _ in range(2))
    return TrainingStep(network, input.channels, Process(device)), views
