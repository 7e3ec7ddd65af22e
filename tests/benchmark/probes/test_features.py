"""Extraction: every image once, in order, from a network that is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.data import DataSet, PixelImages
from benchmark.probes.features import Extractor, accuracy, frozen


def test_features_are_of_all_images_in_order() -> None:
    pixels = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    images = PixelImages(pixels, np.arange(10) % 3)
    data = DataSet("levels", images, images, images, images, 3, 1, 8, (1 / 255,), (2 / 255,))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = Extractor(network, data, 4, torch.device("cpu")).features(images)
    torch.testing.assert_close(found.x[:, 0], (torch.arange(10.0) - 1) / 2)
    assert found.labels.tolist() == images.labels.tolist()
    assert len(found) == 10


@pytest.mark.parametrize("training", [True, False])
def test_frozen_restores_the_mode_even_after_an_error(training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm1d(2)).train(training)

    def fail_inside() -> None:
        with frozen(network):
            assert not network[0].training
            assert not torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert network.training == network[0].training == training
    assert torch.is_grad_enabled()


def test_accuracy_is_exact() -> None:
    assert accuracy(torch.tensor([1, 2, 3]), torch.tensor([1, 0, 3])) == 2 / 3
