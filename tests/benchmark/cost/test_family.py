"""What the committed tables of the family say is what its kernels and slices are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark.cost import family
from benchmark.cost.losses import draw_views
from methods import susreg
from results.family import SLICES, WEIGHTS

FOLDER = Path(__file__).parents[3] / "results" / "reference" / "family"


def test_degree_weights_are_those_of_the_kernels() -> None:
    committed = pd.read_csv(FOLDER / WEIGHTS)
    pd.testing.assert_frame_equal(committed, pd.DataFrame(family.degree_weights()), rtol=1e-9)
    shares = committed.drop(columns=["kernel", "embedding_dim"])
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (shares >= 0).all(axis=None)


def test_errors_of_slices_are_those_of_the_draws_and_fall_by_their_root() -> None:
    committed = pd.read_csv(FOLDER / SLICES).dropna(subset="slices").set_index("slices")
    (found,) = family.errors_of(16).values()
    assert found == pytest.approx(committed.loc[16, [*found]].to_dict(), rel=1e-6)
    for name in found:
        scaled = committed[name] * committed.index.to_numpy() ** 0.5
        assert scaled.max() < 2 * scaled.min()


def test_the_expectation_is_the_mean_over_directions() -> None:
    view = draw_views(6, 4, torch.float64, torch.device("cpu"))[0].detach()
    test = susreg((view, view), slices=20_000, weight=1.0).value
    assert float(family.expectation(view)) == pytest.approx(float(test), rel=0.02)
