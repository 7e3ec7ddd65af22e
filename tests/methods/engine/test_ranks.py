"""Real gloo processes: a sharded loss under DDP is the loss of one process on the whole batch, gradient included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods import registry
from tests.patience import PATIENCE

WORKER = Path(__file__).with_name("sharded_worker.py")


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[3])}
    command = [sys.executable, "-W", "error", str(WORKER), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(4)]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_value_terms_and_parameter_gradients_equal_one_process(findings, world):
    for found in findings[:world]:
        here = {case: gap for case, gap in found["differences"].items() if case.endswith(f" {world}")}
        assert {case.split()[0] for case in here} == set(registry.names())
        assert max(here.values()) < 1e-9, here


def test_modules_that_are_given_a_group_accumulate_the_gradients_of_one_process(findings):
    for found in findings:
        assert set(found["modules"]) == {"SFRIKL3", "SUSReg", "BarlowTwins", "VNE"}
        assert max(found["modules"].values()) < 1e-9, found["modules"]


def test_uneven_batches_are_refused_on_every_rank(findings):
    for found in findings:
        assert len(found["uneven"]) == 2
        assert all("same number of rows, not [6, 5, 5, 5]" in message for message in found["uneven"])
