"""Batches that depend on what they are for alone: not on workers, ranks, or where an epoch was taken up."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.data import DataSet, DataSpec, ImageSet, Input, PixelImages, load
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.views import PROBE_CROPS, Recipe, View, recipe
from benchmark.views.batched import central_crop
from benchmark.views.loader import AHEAD, ViewLoader, Workers, plain_batches, share
from benchmark.views.recipes import CentralCrop
from tests.benchmark import layouts

Steps = list[tuple[Tensor, ...]]

VICREG = recipe("vicreg")

# Python from 3.12 on warns of any fork of a process with threads; torch's loading processes are made for that.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def in_memory() -> DataSet:
    return load(DataSpec(source="digits", limit=300), Path("nowhere"))


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("folder")
    for split, per_class in (("train", 12), ("val", 5)):
        layouts.write_class_folders(folder / split, ["cat", "cow", "dog"], per_class)
    return load(DataSpec(source=f"folder:{folder}", image_size=16), Path("nowhere"))


@pytest.fixture(params=["in_memory", "in_files"])
def data(request: pytest.FixtureRequest) -> DataSet:
    return request.getfixturevalue(request.param)


def loader(data: DataSet, views: Recipe = VICREG, **options: Any) -> ViewLoader:
    options = {"batch_size": 8, "seed": 0, **options}
    process = Process(CPU, options.pop("rank", 0), options.pop("world_size", 1))
    return ViewLoader(data.train, views, Input.of(data), process, **options)


def views_of(made: ViewLoader, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """The views of an epoch's steps."""
    return (batch.views for batch in made.epoch(epoch, first_step))


def numbers_of(made: ViewLoader, epoch: int) -> list[Tensor]:
    """Which images this rank's views of an epoch are of."""
    return [batch.indices for batch in made.epoch(epoch)]


def equal(one: Steps, other: Steps) -> bool:
    steps = zip(one, other, strict=True)
    return all(torch.equal(a, b) for views, others in steps for a, b in zip(views, others, strict=True))


def test_an_epoch_is_whole_batches_of_two_normalised_views(data: DataSet) -> None:
    views = loader(data)
    epoch = list(views_of(views, 0))
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
    first = next(views_of(loader(data), 3))
    assert equal([first], [next(views_of(loader(data), 3))])
    assert not torch.equal(first[0], next(views_of(loader(data), 4))[0])
    assert not torch.equal(first[0], next(views_of(loader(data, seed=1), 3))[0])


def test_an_epoch_sees_every_image_at_most_once_in_an_order_of_its_own(data: DataSet) -> None:
    views = loader(data)
    orders = [numbers_of(views, epoch) for epoch in range(2)]
    for order in orders:
        assert [len(batch_N) for batch_N in order] == views.sizes == [8] * views.steps_per_epoch
        assert len(torch.cat(order).unique()) == 8 * views.steps_per_epoch
    assert not torch.equal(*map(torch.cat, orders))


def test_a_batch_carries_numbers_and_labels_of_its_images(data: DataSet) -> None:
    as_stored = Recipe("as stored", "a test", (View((CentralCrop(),)),))
    views = loader(data, as_stored)
    plain_NCHW = torch.cat(plain_of(data, data.train))
    labels_N = torch.from_numpy(data.train.labels)
    for batch in views.epoch(0):
        torch.testing.assert_close(batch.views[0], plain_NCHW[batch.indices])
        assert torch.equal(batch.labels, labels_N[batch.indices])


def plain_of(data: DataSet, images: ImageSet, batch_size: int = 7, **options: Any) -> list[Tensor]:
    changed = {name: options.pop(name) for name in ("image_size", "mean", "std") if name in options}
    input, batches = replace(Input.of(data), **changed), torch.arange(len(images)).split(batch_size)
    return list(plain_batches(images, batches, input, CPU, **options))


def test_an_epoch_taken_up_in_its_middle_is_its_tail(data: DataSet) -> None:
    views = loader(data)
    whole = list(views_of(views, 1))
    assert equal(list(views_of(views, 1, first_step=2)), whole[2:])
    assert list(views_of(views, 1, first_step=views.steps_per_epoch)) == []


def test_ranks_together_hold_the_global_batch(data: DataSet) -> None:
    whole = list(views_of(loader(data), 0))
    for world_size in (2, 4):
        ranks = [list(views_of(loader(data, rank=rank, world_size=world_size), 0)) for rank in range(world_size)]
        together = [tuple(torch.cat(views) for views in zip(*steps, strict=True)) for steps in zip(*ranks, strict=True)]
        assert equal(together, whole)


@forks
def test_workers_change_nothing(in_files: DataSet) -> None:
    alone, with_workers = loader(in_files), loader(in_files, workers=2)
    for epoch, first_step in ((0, 0), (1, 2), (0, 0)):
        assert equal(list(views_of(with_workers, epoch, first_step)), list(views_of(alone, epoch, first_step)))
    abandoned = views_of(with_workers, 2)
    next(abandoned)
    assert equal(list(views_of(with_workers, 3)), list(views_of(alone, 3)))
    assert equal([tuple(plain_of(in_files, in_files.test, workers=2))], [tuple(plain_of(in_files, in_files.test))])


def test_loading_leaves_the_global_generator_where_it_was(data: DataSet) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(views_of(loader(data), 0))
    plain_of(data, data.test)
    assert torch.equal(torch.rand(3), expected)


def test_a_recipe_of_one_view_trains_a_probe(data: DataSet) -> None:
    views = loader(data, PROBE_CROPS)
    for rows, made in zip(numbers_of(views, 0), views_of(views, 0), strict=True):
        assert [len(view) for view in made] == [len(rows)]


def test_plain_batches_hold_the_images_that_are_asked_for(data: DataSet) -> None:
    batches = plain_of(data, data.test)
    assert [len(x_NCHW) for x_NCHW in batches[:-1]] == [7] * (len(batches) - 1)
    x_NCHW = torch.cat(batches)
    assert x_NCHW.shape == (len(data.test), data.channels, data.image_size, data.image_size)
    assert torch.equal(x_NCHW, torch.cat(plain_of(data, data.test, batch_size=500)))
    asked = [torch.tensor([3, 1]), torch.tensor([0])]
    some = list(plain_batches(data.test, asked, Input.of(data), CPU))
    assert equal([tuple(some)], [(x_NCHW[[3, 1]], x_NCHW[[0]])])
    assert list(plain_batches(data.test, [], Input.of(data), CPU)) == []


def test_plain_batches_of_stored_size_are_the_normalised_pixels(in_memory: DataSet) -> None:
    x_NCHW = torch.cat(plain_of(in_memory, in_memory.tune))
    expected = (in_memory.tune.pixels / 255 - in_memory.mean[0]) / in_memory.std[0]
    torch.testing.assert_close(x_NCHW, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_plain_batches_are_resized_where_the_view_has_another_size(
    data: DataSet, interpolation: Literal["bicubic", "bilinear"]
) -> None:
    found = torch.cat(plain_of(data, data.test, image_size=12, interpolation=interpolation))
    expected = [central_crop(data.test.image(index), 12, interpolation) for index in range(len(data.test))]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(found, (torch.stack(expected) / 255 - mean) / std)


def test_grey_images_become_colour_before_a_network_for_colours(in_memory: DataSet) -> None:
    means, stds = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    found = torch.cat(plain_of(in_memory, in_memory.tune, mean=means, std=stds))
    grey = in_memory.tune.pixels / 255
    expected = [(grey - mean) / std for mean, std in zip(means, stds, strict=True)]
    torch.testing.assert_close(found, torch.cat(expected, dim=1))


def test_colour_images_before_a_network_for_grey_ones_are_an_error(in_files: DataSet) -> None:
    with pytest.raises(UserError, match="the images have 3 channels, the network takes images of 1"):
        plain_of(in_files, in_files.test, mean=(0.5,), std=(0.5,))


def kept(data: DataSet, **options: Any) -> ViewLoader:
    """Every image, in batches of 8; of the last one, a smaller one, too."""
    return loader(replace(data, train=data.train.subset(np.arange(19))), PROBE_CROPS, smallest=1, **options)


def test_the_last_smaller_batch_is_kept_where_asked(data: DataSet) -> None:
    views = kept(data)
    assert views.sizes == [8, 8, 3]
    assert [len(view) for (view,) in views_of(views, 0)] == [8, 8, 3]
    assert sorted(torch.cat(numbers_of(views, 0)).tolist()) == list(range(19))
    dropped = loader(replace(data, train=data.train.subset(np.arange(19))), PROBE_CROPS)
    assert equal(list(views_of(views, 0))[:2], list(views_of(dropped, 0)))
    (alone,) = views_of(kept(data, batch_size=100), 0)
    assert [len(view) for view in alone] == [19]


@pytest.mark.parametrize("name", ["obow", "swav", "lejepa"])
def test_views_of_several_sizes(name: str, data: DataSet) -> None:
    crops, sides = loader(data, recipe(name)), recipe(name).sides(data.image_size)
    shapes = [(8, data.channels, side, side) for side in sides]
    first = next(views_of(crops, 0))
    assert [view.shape for view in first] == shapes
    ranks = [next(views_of(loader(data, recipe(name), rank=rank, world_size=2), 0)) for rank in range(2)]
    for view, parts in zip(first, zip(*ranks, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), view)  # products of small matrices round by their number


@pytest.mark.parametrize("batch_size", [8, 5])
@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_ranks_share_batches_of_any_size(data: DataSet, batch_size: int, world_size: int) -> None:
    whole = kept(data, batch_size=batch_size)
    ranks = [kept(data, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for first_step in (0, 1):
        parts = zip(*(views_of(rank, 0, first_step) for rank in ranks), strict=True)
        together = [tuple(torch.cat(views) for views in zip(*steps, strict=True)) for steps in parts]
        assert equal(together, list(views_of(whole, 0, first_step)))
    numbers = [torch.cat(step) for step in zip(*(numbers_of(rank, 0) for rank in ranks), strict=True)]
    assert [step.tolist() for step in numbers] == [step.tolist() for step in numbers_of(whole, 0)]
    if world_size == 8:
        assert 0 in {len(view) for rank in ranks for (view,) in views_of(rank, 0)}, "some rank had none of a batch"


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
    data = load(DataSpec(source=f"folder:{tmp_path}", image_size=16, tune_fraction=0.25), Path("nowhere"))
    torn = Path(data.train.paths[3].decode())
    torn.write_bytes(b"torn")
    attempts: list[Callable[[], object]] = [
        lambda: list(views_of(loader(data, batch_size=4, workers=workers), 0)),
        lambda: plain_of(data, data.train, workers=workers),
    ]
    for attempt in attempts:
        with pytest.raises(UserError, match=rf"\Aimage {torn} cannot be read: [^\n]+\Z"):
            attempt()


def test_views_of_files_are_those_of_the_same_pixels_in_memory(tmp_path: Path) -> None:
    """Drawn alike; the loading processes crop and resize to bytes, which rounds."""
    layouts.write_class_folders(tmp_path / "train", ["cat", "dog"], 12, side=64)
    layouts.write_class_folders(tmp_path / "val", ["cat", "dog"], 3, side=64)
    files = load(DataSpec(source=f"folder:{tmp_path}", image_size=48, tune_fraction=0), Path("nowhere"))
    pixels = torch.stack([files.train.image(index) for index in range(len(files.train))])
    memory = replace(files, train=PixelImages(pixels, files.train.labels))
    for name in ("vicreg", "grey", "swav", "obow"):
        first, second = (next(views_of(loader(data, recipe(name)), 2)) for data in (files, memory))
        std = torch.tensor(files.std).view(-1, 1, 1)
        for one, other in zip(first, second, strict=True):
            assert ((one - other) * std).abs().mean() < 2 / 255


@forks
def test_loading_goes_on_over_epochs_and_is_a_bounded_number_of_batches_ahead(in_files: DataSet) -> None:
    alone, ahead = loader(in_files), loader(in_files, workers=2)
    begun: list[int] = []
    batches = ahead._workers.batches

    def counted(work: Iterable[list[tuple[int, int]]]) -> Iterator[list[Tensor]]:
        return batches(begun.append(batch[0][0]) or batch for batch in work)

    ahead._workers.batches = counted  # type: ignore[assignment]
    steps, taken = ahead.steps_per_epoch, 0
    for epoch in range(3):
        for found, expected in zip(views_of(ahead, epoch), views_of(alone, epoch), strict=True):
            taken += 1
            assert equal([found], [expected])
            assert taken < len(begun) <= taken + AHEAD + 1
            assert taken < steps or begun.count(0) == steps, "begun once"
    assert begun == sorted(begun)
    assert begun[-1] == 3, "the next epoch has begun"


@forks
@pytest.mark.parametrize("cycle", [False, True])
def test_loading_processes_end_with_their_loader(
    in_files: DataSet, cycle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 60)  # until one is killed
    before = set(multiprocessing.active_children())
    views = loader(in_files, workers=2)
    next(views_of(views, 0))
    asked = [torch.arange(2)] * 2
    plain = plain_batches(in_files.test, asked, Input.of(in_files), CPU, workers=2)
    next(plain)
    processes = set(multiprocessing.active_children()) - before
    kept: list[object] = [views, plain]
    kept += [kept] if cycle else []
    gc.disable()
    try:
        del views, plain, kept
        if cycle:
            gc.collect()
        assert [process.exitcode for process in processes] == [0] * 4
    finally:
        gc.enable()


@forks
def test_a_loading_process_ends_nothing_that_its_parent_let_go() -> None:
    ended: list[int] = []

    class Loader:
        """In a cycle, as torch's are: only a collection ends it."""

        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            ended.append(1)

    def work(share: list[int]) -> list[Tensor]:
        gc.collect()
        return [torch.full((len(share), 1, 1, 1), len(ended), dtype=torch.uint8)]

    gc.disable()  # not before the fork
    try:
        Loader()
        ((inherited,),) = Workers(work, 1, torch.device("cpu")).batches([[0]])
    finally:
        gc.enable()
    assert inherited.item() == 0
    gc.collect()
    assert ended == [1], "it was there to be ended"


def test_a_share_is_as_even_as_can_be() -> None:
    shares = [share(10, part, 4) for part in range(4)]
    assert [row.stop - row.start for row in shares] == [2, 3, 2, 3]
    assert [share(2, part, 4).stop - share(2, part, 4).start for part in range(4)] == [0, 1, 0, 1]
