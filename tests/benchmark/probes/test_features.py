"""Extraction: every image once, in order, from a network that is left as it was; kept by parts, bounded in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.data import DataSet, PixelImages
from benchmark.networks.base import FrozenModule, Input, frozen
from benchmark.probes import subject as extraction
from benchmark.probes.subject import AllStopped, Subject, read_parts, write_parts
from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from tests.benchmark.probes.subjects import make_subject, small_network, striped, stripes


class Counting(nn.Flatten):
    """Pixels as features; counts images, and asks for a stop with the batch of that number."""

    def __init__(self, requests: Requests | None = None, stop_at: int = -1) -> None:
        super().__init__()
        self.images, self._batches, self._requests, self._stop_at = 0, 0, requests, stop_at

    def forward(self, x_NCHW: Tensor) -> Tensor:
        self.images += len(x_NCHW)
        if self._batches == self._stop_at:
            assert self._requests is not None
            self._requests.run_must_end = True
        self._batches += 1
        return super().forward(x_NCHW)


def of_pixels(folder: Path, module: nn.Module | None = None, **changed: Any) -> Subject:
    data = striped()
    network = FrozenModule("pixels", module or nn.Flatten(), Input.of(data), 64, 0)
    return make_subject(network, data, folder, **changed)


def test_features_are_of_all_images_in_order(tmp_path: Path) -> None:
    pixels = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    images = PixelImages(pixels, np.arange(50) % 3)
    data = DataSet("levels", images, images, images, images, 3, 1, 8, (1 / 255,), (2 / 255,))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    subject = make_subject(FrozenModule("mean", network, Input.of(data), 1, 0), data, tmp_path)
    found = subject.bank()
    torch.testing.assert_close(found.x[:, 0], (torch.arange(50.0) - 1) / 2)
    assert found.labels.tolist() == images.labels.tolist()
    assert len(found) == 50


def test_features_that_are_not_finite_are_a_failure(tmp_path: Path) -> None:
    """Of weights that are: a variance below 0, say, or what half precision does not hold."""
    broken = nn.BatchNorm2d(1)
    broken.running_var.fill_(-1.0)
    with pytest.raises(UserError, match="the features of test hold NaN or infinity"):
        of_pixels(tmp_path, nn.Sequential(broken, nn.Flatten())).queries()


@pytest.mark.parametrize("training", [True, False])
def test_frozen_restores_the_mode_even_after_an_error(training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm1d(2)).train(training)

    def fail_inside() -> None:
        with frozen([network, None]):
            assert not network[0].training
            assert not torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert network.training == network[0].training == training
    assert torch.is_grad_enabled()


def test_all_probes_of_a_subject_share_features_but_not_of_another_resize(tmp_path: Path) -> None:
    counting = Counting()
    subject = of_pixels(tmp_path, counting)
    again = replace(subject, own=tmp_path / "another")
    assert subject.bank() is again.bank()
    assert counting.images == 48
    again.bank("bilinear")
    assert counting.images == 2 * 48


def test_precision_is_the_networks_and_features_are_float32(tmp_path: Path) -> None:
    data = striped()
    exact = make_subject(small_network(), data, tmp_path / "fp32").bank().x
    half = make_subject(small_network(), data, tmp_path / "bf16", precision="bf16").bank().x
    assert exact.dtype == half.dtype == torch.float32
    assert not torch.equal(exact, half)
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_what_a_stop_left_is_not_made_again(tmp_path: Path, stop_at: int) -> None:
    expected, requests = of_pixels(tmp_path / "whole").bank().x, Requests()
    with pytest.raises(AllStopped):
        of_pixels(tmp_path / "parts", Counting(requests, stop_at), requests=requests).bank()
    on = Counting()
    assert torch.equal(of_pixels(tmp_path / "parts", on).bank().x, expected)
    assert on.images == 48 - 16 * (stop_at + 1)


def test_what_a_kill_left_is_not_made_again_and_other_batches_fit_it(tmp_path: Path) -> None:
    """Written as time goes by; an attempt with larger batches makes those anew of which a part is not there."""
    expected = of_pixels(tmp_path / "whole").bank().x
    requests = Requests()
    subject = of_pixels(tmp_path / "parts", Counting(requests, 2), requests=requests, seconds=0)
    with pytest.raises(AllStopped):
        subject.bank()
    folder = tmp_path / "parts" / "measuring" / "data" / "features-labelled-bicubic-fp32"
    first, second, third = sorted(folder.iterdir())
    assert [path.name for path in (first, second, third)] == [
        f"part-{start:09d}-{start + 15:09d}-0.safetensors" for start in (0, 16, 32)
    ]
    third.unlink()
    execution = Execution(checkpoint_seconds=1e9, feature_batch_size=24)
    on = Counting()
    assert torch.equal(of_pixels(tmp_path / "parts", on, execution=execution).bank().x, expected)
    assert on.images == 24


@pytest.mark.parametrize("damage", ["cut", "empty", "other features", "other images"])
def test_a_damaged_part_is_left_out_with_a_warning(tmp_path: Path, damage: str) -> None:
    expected = of_pixels(tmp_path / "whole").bank().x
    of_pixels(tmp_path / "parts", seconds=0).bank()
    folder = tmp_path / "parts" / "measuring" / "data" / "features-labelled-bicubic-fp32"
    part = sorted(folder.iterdir())[1]
    if damage == "other features":
        write_parts(folder, 0, torch.ones(48, 63), [torch.arange(16, 32)])
    elif damage == "other images":
        write_parts(folder, 0, torch.ones(60, 64), [torch.tensor([16, 50, 31])])
    else:
        part.write_bytes(part.read_bytes()[:100] if damage == "cut" else b"")
    on = Counting()
    with pytest.warns(DamagedFile, match=part.name):
        assert torch.equal(of_pixels(tmp_path / "parts", on).bank().x, expected)
    assert on.images == 16


def test_a_large_part_is_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "PART_BYTES", 4 * 64 * 5)
    x_NF, batches = torch.rand(30, 64), list(torch.arange(30).split(16))
    write_parts(tmp_path, 0, x_NF, batches)
    assert len(list(tmp_path.iterdir())) == 6
    there = torch.zeros(30, 64)
    assert read_parts(tmp_path, there, batches) == {0, 1}
    assert torch.equal(there, x_NF)


def test_rows_of_a_batch_that_is_not_whole_are_zero_again(tmp_path: Path) -> None:
    """They are summed over the processes, of which another one may make the batch."""
    write_parts(tmp_path, 0, torch.ones(30, 4), [torch.arange(10)])
    x_NF = torch.zeros(30, 4)
    assert read_parts(tmp_path, x_NF, list(torch.arange(30).split(16))) == set()
    assert not x_NF.any()


def test_features_of_imagenet_are_one_tensor_and_no_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.28 million images by 2,048 features, by their shapes, which have no values to be finite."""
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda x: ())
    images, features, batch_size = 1_281_167, 2048, 2**15
    pixels = PixelImages(torch.empty(images, 1, 8, 8, dtype=torch.uint8, device="meta"), np.zeros(images, np.int64))
    data = DataSet("large", pixels, pixels, pixels, pixels, 2, 1, 8, (0.5,), (0.5,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, features)).to("meta")
    execution = Execution(checkpoint_seconds=1e9, feature_batch_size=batch_size)
    subject = make_subject(
        FrozenModule("linear", network, Input.of(data), features, 0),
        data,
        tmp_path,
        execution=execution,
        process=Process(torch.device("meta")),
    )
    with PeakMemory(network, pixels.pixels) as memory:
        found = subject.bank().x
    assert found.shape == (images, features)
    # Beside the one tensor: numbers of images and labels, and a batch with what it is made of.
    assert memory.peak_bytes < 4 * features * images + 3 * 8 * images + 3 * 4 * batch_size * features


def test_embeddings_are_the_projectors_of_all_images_in_order(tmp_path: Path) -> None:
    network, data = small_network(), striped()
    subject = make_subject(network, data, tmp_path)
    bank = subject.bank()
    with subject.frozen():
        embedded = subject.embedded(bank)
    assert network.projector is not None
    torch.testing.assert_close(embedded.x, network.projector(bank.x).detach())
    assert torch.equal(embedded.labels, bank.labels)


def test_a_projector_that_was_not_kept_is_told_of(tmp_path: Path) -> None:
    subject = make_subject(replace(small_network(), projector=None), striped(), tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}: its projector was not kept"):
        subject.embedded(subject.bank())


def test_grey_images_are_repeated_before_a_network_that_sees_colours(tmp_path: Path) -> None:
    data = striped()
    network = FrozenModule("pixels", nn.Flatten(), Input(3, 8, (0.3,) * 3, (0.2,) * 3), 192, 0)
    grey = of_pixels(tmp_path / "grey").bank().x
    assert torch.equal(make_subject(network, data, tmp_path / "colour").bank().x, grey.repeat(1, 3))


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    def unreadable(size: int) -> PixelImages:
        class Unreadable(PixelImages):
            def __getattribute__(self, name: str) -> Any:
                raise AssertionError("another split was read")

        return Unreadable(torch.zeros(size, 1, 8, 8), np.zeros(size))

    data = replace(striped(), train=unreadable(48), test=unreadable(30))
    subject = make_subject(small_network(), data, tmp_path, split="tune")
    assert len(subject.bank()) == 48
    expected = make_subject(small_network(), replace(striped(), test=stripes(21, 1)), tmp_path / "test").queries()
    assert torch.equal(subject.queries().x, expected.x)
