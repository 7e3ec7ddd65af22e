"""Batches that depend on what they are for alone: not on workers, ranks, or where an epoch was taken up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.data import DataSet, ImageSet, load
from benchmark.runtime.errors import UserError
from benchmark.suite.run import DataSpec, Execution
from benchmark.views import PROBE_CROPS, Recipe, recipe
from benchmark.views.loader import ViewLoader, plain_batches
from tests.benchmark import layouts

Epoch = list[tuple[Tensor, ...]]

VICREG = recipe("vicreg")

# Python from 3.12 on warns of any fork of a process with threads; torch's loading processes are made for that.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def in_memory() -> DataSet:
    return load(DataSpec(source="digits"), Execution())


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("folder")
    for split, per_class in (("train", 12), ("val", 5)):
        layouts.write_class_folders(folder / split, ["cat", "cow", "dog"], per_class)
    return load(DataSpec(source=f"folder:{folder}", image_size=16), Execution())


@pytest.fixture(params=["in_memory", "in_files"])
def data(request: pytest.FixtureRequest) -> DataSet:
    return request.getfixturevalue(request.param)


def loader(data: DataSet, views: Recipe = VICREG, **options: Any) -> ViewLoader:
    options = {"batch_size": 8, "seed": 0, **options}
    return ViewLoader(data.train, views, image_size=data.image_size, mean=data.mean, std=data.std, **options)


def equal(one: Epoch, other: Epoch) -> bool:
    steps = zip(one, other, strict=True)
    return all(torch.equal(a, b) for views, others in steps for a, b in zip(views, others, strict=True))


def test_an_epoch_is_whole_batches_of_two_normalised_views(data: DataSet) -> None:
    views = loader(data)
    epoch = list(views.epoch(0))
    assert len(epoch) == views.steps_per_epoch == len(data.train) // 8
    for step in epoch:
        assert [view.shape for view in step] == [(8, data.channels, data.image_size, data.image_size)] * 2
        assert all(view.dtype == torch.float32 for view in step)
        assert not torch.equal(*step)
    lowest = min(-mean / std for mean, std in zip(data.mean, data.std, strict=True))
    highest = max((1 - mean) / std for mean, std in zip(data.mean, data.std, strict=True))
    values = torch.cat([view.flatten() for step in epoch for view in step])
    assert lowest - 1e-5 <= float(values.min()) < 0 < float(values.max()) <= highest + 1e-5


def test_views_are_keyed_by_seed_and_epoch(data: DataSet) -> None:
    first = next(loader(data).epoch(3))
    assert equal([first], [next(loader(data).epoch(3))])
    assert not torch.equal(first[0], next(loader(data).epoch(4))[0])
    assert not torch.equal(first[0], next(loader(data, seed=1).epoch(3))[0])


def test_an_epoch_sees_every_image_at_most_once_in_an_order_of_its_own(data: DataSet) -> None:
    views = loader(data)
    orders = [views.indices(epoch) for epoch in range(2)]
    for order in orders:
        assert order.shape == (views.steps_per_epoch, 8)
        assert len(order.unique()) == order.numel()
    assert not torch.equal(*orders)


def test_indices_name_the_images_of_the_views(data: DataSet) -> None:
    as_stored = Recipe("as stored", "a test", (recipe("grey").views[0][:1],))
    views = loader(data, as_stored)
    plain_NCHW = torch.cat([x for x, _ in plain_of(data, data.train)])
    (first,) = next(views.epoch(0))
    torch.testing.assert_close(first, plain_NCHW[views.indices(0)[0]])


def plain_of(data: DataSet, images: ImageSet, batch_size: int = 7, workers: int = 0) -> list[tuple[Tensor, Tensor]]:
    batches = plain_batches(
        images, batch_size=batch_size, image_size=data.image_size, mean=data.mean, std=data.std, workers=workers
    )
    return list(batches)


def test_an_epoch_taken_up_in_its_middle_is_its_tail(data: DataSet) -> None:
    views = loader(data)
    whole = list(views.epoch(1))
    assert equal(list(views.epoch(1, first_step=2)), whole[2:])
    assert list(views.epoch(1, first_step=views.steps_per_epoch)) == []


def test_ranks_together_hold_the_global_batch(data: DataSet) -> None:
    whole = list(loader(data).epoch(0))
    for world_size in (2, 4):
        ranks = [list(loader(data, rank=rank, world_size=world_size).epoch(0)) for rank in range(world_size)]
        together = [tuple(torch.cat(views) for views in zip(*steps, strict=True)) for steps in zip(*ranks, strict=True)]
        assert equal(together, whole)


@forks
def test_workers_change_nothing(in_files: DataSet) -> None:
    alone, with_workers = loader(in_files), loader(in_files, workers=2)
    for epoch, first_step in ((0, 0), (1, 2), (0, 0)):
        assert equal(list(with_workers.epoch(epoch, first_step)), list(alone.epoch(epoch, first_step)))
    abandoned = with_workers.epoch(2)
    next(abandoned)
    assert equal(list(with_workers.epoch(3)), list(alone.epoch(3)))
    assert equal(plain_of(in_files, in_files.test, workers=2), plain_of(in_files, in_files.test))


def test_loading_leaves_the_global_generator_where_it_was(data: DataSet) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(loader(data).epoch(0))
    plain_of(data, data.test)
    assert torch.equal(torch.rand(3), expected)


def test_a_recipe_of_one_view_trains_a_probe(data: DataSet) -> None:
    views = loader(data, PROBE_CROPS)
    for rows, made in zip(views.indices(0), views.epoch(0), strict=True):
        assert [len(view) for view in made] == [len(rows)]


def test_plain_batches_hold_every_image_in_order_with_its_label(data: DataSet) -> None:
    batches = plain_of(data, data.test)
    assert [len(x) for x, _ in batches[:-1]] == [7] * (len(batches) - 1)
    assert torch.cat([labels for _, labels in batches]).tolist() == data.test.labels.tolist()
    x_NCHW = torch.cat([x for x, _ in batches])
    assert x_NCHW.shape == (len(data.test), data.channels, data.image_size, data.image_size)
    assert equal([(x_NCHW,)], [(torch.cat([x for x, _ in plain_of(data, data.test, batch_size=500)]),)])


def test_plain_batches_of_stored_size_are_the_normalised_pixels(in_memory: DataSet) -> None:
    x_NCHW = torch.cat([x for x, _ in plain_of(in_memory, in_memory.tune)])
    expected = (in_memory.tune.pixels / 255 - in_memory.mean[0]) / in_memory.std[0]
    torch.testing.assert_close(x_NCHW, expected)


def test_plain_batches_are_resized_where_the_view_has_another_size(in_memory: DataSet) -> None:
    batches = plain_batches(in_memory.tune, batch_size=50, image_size=12, mean=in_memory.mean, std=in_memory.std)
    assert {x.shape[1:] for x, _ in batches} == {(1, 12, 12)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4000}, "batch_size is 4000, must be at most the number of training images"),
        ({"batch_size": 9, "world_size": 2}, "batch_size is 9, must be a multiple of the number of processes, 2"),
    ],
)
def test_an_impossible_batch_is_an_error(options: dict[str, int], message: str, data: DataSet) -> None:
    with pytest.raises(UserError, match=message):
        loader(data, **options)


@forks
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_one_sentence_from_any_process(workers: int, tmp_path: Path) -> None:
    for split in ("train", "val"):
        layouts.write_class_folders(tmp_path / split, ["cat", "dog"], 8)
    data = load(DataSpec(source=f"folder:{tmp_path}", image_size=16, tune_fraction=0.25), Execution())
    torn = Path(data.train.paths[3].decode())
    torn.write_bytes(b"torn")
    attempts: list[Callable[[], object]] = [
        lambda: list(loader(data, batch_size=4, workers=workers).epoch(0)),
        lambda: plain_of(data, data.train, workers=workers),
    ]
    for attempt in attempts:
        with pytest.raises(UserError, match=rf"\Aimage {torn} cannot be read: [^\n]+\Z"):
            attempt()
