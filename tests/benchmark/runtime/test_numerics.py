"""What a device does to numbers is set for a Run and told in its record; fp32 is fp32 unless the Run says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.backends import cuda, cudnn

from benchmark.networks.trained import Trained
from benchmark.runtime.numerics import computing_in, flags
from benchmark.suite.expand import load_suite
from tests.benchmark.conftest import Command

GPU = torch.device("cuda")
EXACT = {
    "matmul_tf32": False,
    "convolution_tf32": False,
    "half_precision_sums": False,
    "cudnn_benchmark": False,
    "cudnn_deterministic": True,
}


def test_tf32_is_used_where_a_run_says_so_and_nowhere_else() -> None:
    cudnn.allow_tf32 = True  # as torch comes
    before = flags(GPU)
    with computing_in("tf32"):
        assert flags(GPU) == {**EXACT, "matmul_tf32": True, "convolution_tf32": True}
        for precision in ("fp32", "bf16", "fp16"):
            with computing_in(precision):  # type: ignore[arg-type]
                assert flags(GPU) == EXACT
        assert cuda.matmul.allow_tf32
    assert flags(GPU) == before != EXACT


def test_tf32_is_another_network_and_fp32_the_one_it_was(tiny: Path) -> None:
    def network(*settings: str) -> Trained:
        made = load_suite(str(tiny), ["method=vicreg", *settings]).cells[0].run.network
        assert isinstance(made, Trained)
        return made

    assert network().digest == network("precision=fp32").digest != network("precision=tf32").digest


@pytest.mark.parametrize("key", ["precision", "evaluation.precision"])
def test_tf32_is_refused_where_it_would_be_fp32(tiny: Path, tmp_path: Path, spherebench: Command, key: str) -> None:
    result = spherebench("run", tiny, "--out", tmp_path / "runs", "--set", f"{key}=tf32", "--set", "device=cpu")
    assert result.exit_code == 2
    assert f"{key}: is tf32, which only CUDA devices have" in result.output
    assert not (tmp_path / "runs").exists()
