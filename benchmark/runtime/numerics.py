"""What a device does to numbers: set here and nowhere else, and told in every record."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cuda, cudnn

from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import Precision

# The type of autocast. In tf32 tensors are float32, and factors of products and convolutions have 10 bits of mantissa.
AUTOCAST = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: Precision, device: torch.device, key: str = "precision") -> None:
    """Raise :class:`UserError` where a device has no such precision, and would quietly compute in another."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"{key}: is tf32, which only CUDA devices have; on the CPU it may be fp32, bf16 or fp16")


@contextmanager
def computing_in(precision: Precision = "fp32") -> Iterator[None]:
    """Inside, float32 products and convolutions are IEEE's, or TF32's where the precision says so; after as before.

    torch by itself convolves in TF32. Half-precision products are summed in float32 throughout, and cuDNN takes
    algorithms that give the same bits each time, by its own heuristic: a choice by timing is another in every run.
    """
    # By the older of torch's two ways to say TF32: after the newer one, parts of torch that ask the older way fail.
    settings: dict[tuple[Any, str], bool] = {
        (cuda.matmul, "allow_tf32"): precision == "tf32",
        (cudnn, "allow_tf32"): precision == "tf32",
        (cuda.matmul, "allow_fp16_reduced_precision_reduction"): False,
        (cuda.matmul, "allow_bf16_reduced_precision_reduction"): False,
        (cudnn, "benchmark"): False,
        (cudnn, "deterministic"): True,
    }
    before = {place: getattr(*place) for place in settings}
    try:
        for place, value in settings.items():
            setattr(*place, value)
        yield
    finally:
        for place, value in before.items():
            setattr(*place, value)


def flags(device: torch.device) -> dict[str, bool | str]:
    """How the device computes just now, as torch tells it."""
    if device.type != "cuda":
        return {"float32_matmul_precision": torch.get_float32_matmul_precision()}
    return {
        "matmul_tf32": cuda.matmul.allow_tf32,
        "convolution_tf32": cudnn.allow_tf32,
        "half_precision_sums": cuda.matmul.allow_bf16_reduced_precision_reduction,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
    }
