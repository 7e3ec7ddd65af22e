import os
from pathlib import Path

import pytest

from results.record import Metric, matches, write_atomically


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        ("fewshot_top1", True),
        ("fewshot_top1[labels_per_class=10", True),
        ("fewshot_top1[labels_per_class=10.0,probe=logistic C=1]", True),
        ("fewshot_top1[labels_per_class=1", False),
        ("fewshot_top1[labels_per_class=ten", False),
        ("fewshot_top1[shots=10]", False),
        ("fewshot", False),
    ],
)
def test_request_fits_a_metric_by_name_and_typed_values(request_: str, asked: bool) -> None:
    metric = Metric(metric="fewshot_top1", protocol={"labels_per_class": 10, "probe": "logistic C=1"}, value=0.5)
    assert matches(metric, request_) is asked


@pytest.mark.parametrize("wrong", ["", "[k=1]", "knn_top1[k]"])
def test_request_that_asks_for_nothing_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match="asks for no metric"):
        matches(Metric(metric="m", protocol={}, value=0.0), wrong)


def test_what_cannot_be_written_is_named_whatever_the_system_says(tmp_path: Path) -> None:
    """A full disk names no file, a folder that is not there the neighbour that is written first."""
    with pytest.raises(FileNotFoundError, match=r"absent/record\.json'$"):
        write_atomically(tmp_path / "absent" / "record.json", b"{}")
    full = tmp_path / f".record.json.{os.getpid()}.tmp"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/record\.json'$"):
        write_atomically(tmp_path / "record.json", b"{}")
    assert not full.is_symlink()
