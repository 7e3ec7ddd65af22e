"""Real gloo processes: a sharded loss under DDP is the loss of one process on the whole batch, gradient included."""

import pytest

from methods import registry
from tests.methods.engine import sharded


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return sharded.findings_in(tmp_path_factory.mktemp("ranks"))


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
