import math
from pathlib import Path

import pytest

from results.curves import read_curve


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_curve_by_step(log: Path) -> None:
    log.write_text('{"step": 10, "loss": 0.5}\n{"step": 0, "loss": 1.0}\n')
    assert read_curve(log.parent).to_dict() == {0: 1.0, 10: 0.5}


def test_torn_line_is_passed_over(log: Path) -> None:
    log.write_bytes(b'{"step": 0, "loss": 1.0}\n{"step": 10, "lo')
    assert read_curve(log.parent).to_dict() == {0: 1.0}


def test_step_logged_again_after_a_resumption_counts_once(log: Path) -> None:
    log.write_text('{"step": 5, "loss": 1.0}\n{"step": 6, "loss": 0.9}\n{"step": 6, "loss": 0.8}\n')
    assert read_curve(log.parent).to_dict() == {5: 1.0, 6: 0.8}


@pytest.mark.parametrize("text", ["NaN", '"nan"', "Infinity"])
def test_loss_that_is_not_finite_ends_the_curve(log: Path, text: str) -> None:
    log.write_text(f'{{"step": 0, "loss": 1.0}}\n{{"step": 1, "loss": {text}}}\n')
    assert math.isnan(read_curve(log.parent)[1])


def test_run_that_logged_nothing(tmp_path: Path) -> None:
    assert read_curve(tmp_path).empty
