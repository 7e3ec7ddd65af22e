"""Whether a Run can be carried out on its data. Loads none of the estimators: every suite asks."""

from __future__ import annotations

from benchmark.data import DataSet, Points
from benchmark.runtime.errors import UserError
from benchmark.suite.run import Run


def check(data: DataSet, run: Run) -> None:
    """Raise :class:`UserError` where the run's method cannot be fitted on these data: cheap, before anything runs."""
    points = isinstance(data.train, Points)
    if run.regime is None:
        if points:
            raise UserError(f"data.source {data.name}: holds points, not images; {run.method} needs images")
        return
    pixels = data.train.pixels
    if pixels is None and not points:
        raise UserError(f"data.source {data.name}: lies in files; kernel methods need data that is held in memory")
    if points and run.regime.augmentation != "none":
        raise UserError(
            f"regime.relation: is views, and data.source {data.name} holds points, of which no views are made; "
            "give relation neighbours"
        )
    if run.data.image_size is not None and pixels is not None and run.data.image_size != pixels.shape[-1]:
        raise UserError(f"data.image_size: is {run.data.image_size}, kernel methods see the images as they are stored")
    if run.regime.n_neighbors is not None and run.regime.n_neighbors >= len(data.train):
        raise UserError(f"regime.n_neighbors: is {run.regime.n_neighbors}, must be below the {len(data.train)} rows")
