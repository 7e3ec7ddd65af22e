"""Real gloo processes: a sharded loss under DDP is the loss of one process on the whole batch, gradient included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods import registry

WORKER = Path(__file__).with_name("sharded_worker.py")
ROOT = WORKER.parents[2]


@pytest.fixture(scope="module", params=[2, 3])
def findings(request, tmp_path_factory):
    """What each rank of a group found."""
    world, folder = request.param, tmp_path_factory.mktemp(f"world{request.param}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    files = [folder / f"{rank}.json" for rank in range(world)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(world), str(folder / "rendezvous"), str(file)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), errors
    return [json.loads(file.read_text()) for file in files]


def test_value_terms_and_parameter_gradients_equal_one_process(findings):
    for found in findings:
        assert {name.split()[0] for name in found["differences"]} == set(registry.names())
        assert max(found["differences"].values()) < 1e-9, found["differences"]


def test_uneven_batches_are_refused_on_every_rank(findings):
    for found in findings:
        assert len(found["uneven"]) == 2
        assert all("same number of rows, not [7, 6" in message for message in found["uneven"])
