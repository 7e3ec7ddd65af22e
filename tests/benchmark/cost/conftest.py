"""Few repeats of small products: what these tests look at is not how long anything takes."""

from __future__ import annotations

import pytest

from benchmark.cost import losses, sweep


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "MOST", losses.LEAST)
    monkeypatch.setitem(sweep._PRODUCT_SIDES, "cpu", 64)
