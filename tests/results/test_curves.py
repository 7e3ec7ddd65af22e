import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.curves import curve
from results.runs import Records

Curve = Callable[[bytes], pd.Series]


@pytest.fixture
def logged(make_record: Callable[..., Any], tmp_path: Path) -> Curve:
    """The curve of a network that wrote these lines."""

    def read(lines: bytes) -> pd.Series:
        (tmp_path / "metrics.jsonl").write_bytes(lines)
        return curve(Records(make_record().network, (), tmp_path))

    return read


def test_curve_by_step(logged: Curve) -> None:
    assert logged(b'{"step": 10, "loss": 0.5}\n{"step": 0, "loss": 1.0}\n').to_dict() == {0: 1.0, 10: 0.5}


def test_torn_line_is_passed_over(logged: Curve) -> None:
    assert logged(b'{"step": 0, "loss": 1.0}\n{"step": 10, "lo').to_dict() == {0: 1.0}
    assert logged(b'\xff\xfe\n7\n{"step": 0, "loss": 1.0}\n').to_dict() == {0: 1.0}


def test_step_logged_again_after_a_resumption_counts_once(logged: Curve) -> None:
    lines = b'{"step": 5, "loss": 1.0}\n{"step": 6, "loss": 0.9}\n{"step": 6, "loss": 0.8}\n'
    assert logged(lines).to_dict() == {5: 1.0, 6: 0.8}


@pytest.mark.parametrize("text", [b"NaN", b'"nan"', b"Infinity"])
def test_loss_that_is_not_finite_ends_the_curve(logged: Curve, text: bytes) -> None:
    assert math.isnan(logged(b'{"step": 0, "loss": 1.0}\n{"step": 1, "loss": %s}\n' % text)[1])


def test_network_that_logged_nothing(make_record: Callable[..., Any], tmp_path: Path) -> None:
    assert curve(Records(make_record().network, (), tmp_path)).empty
