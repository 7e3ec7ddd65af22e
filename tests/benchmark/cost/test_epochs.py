"""An epoch is measured whole, loader and step, beside the same recipe as lightly has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.transforms import v2

from benchmark.cost import epochs
from benchmark.cost.sweep import cells, measure
from benchmark.views import recipe
from benchmark.views.recipes import ColourJitter, GaussianBlur, Grayscale, RandomResizedCrop, Solarize
from results.cell import render
from tests.benchmark import layouts
from tests.benchmark.conftest import Command

SMALL = ("data.image_size=16", "backbone.name=small_cnn", "backbone.width=8", "projector.hidden=16", "workers=1")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_epoch_is_measured_beside_lightlys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        layouts.write_class_folders(tmp_path / split, ["cat", "dog"], 10)
    monkeypatch.setattr(epochs, "EPOCHS", 3)
    axes = {"method": ["vicreg"], "batch_size": [6], "embedding_dim": [8], "form": ["auto"], "precision": ["fp32"]}
    settings = (*SMALL, f"data.source=folder:{tmp_path}", "augmentation=vicreg")
    ((cell,), _) = cells(axes, {"scope": "epoch", "settings": settings, "reference": True, "device": "cpu"})
    found = measure(cell)
    row = found.row()
    assert (found.status, row["repeats"]) == ("done", 3)
    assert f"18 images of folder:{tmp_path.name} in files, workers=1" in found.network
    assert found.provenance.versions["lightly"].startswith("1.6")
    assert str(tmp_path) not in found.model_dump_json()
    for side in ("", "reference_"):
        assert 0 < row[f"{side}loading_seconds"] < row[f"{side}seconds"]
        assert row[f"{side}wall_seconds"] > 0
    assert 0 <= row["shortest_wait_seconds"] <= row["longest_wait_seconds"]
    assert f"{row['time_ratio']:.2f}x" in render([found])


@pytest.mark.parametrize("name", epochs.TRANSFORMS)
def test_lightlys_transforms_are_our_recipe(name: str) -> None:
    """But for its interpolation, which is bilinear, and the width of its blur's kernel."""
    for view, transform in zip(recipe(name).views, epochs.transforms(name, 32, (0.5,) * 3, (0.5,) * 3), strict=True):
        made = transform.transform.transforms
        ours = {type(operation): operation for operation in view.operations}
        crop = next(one for one in made if isinstance(one, v2.RandomResizedCrop))
        assert (crop.scale, crop.ratio) == (ours[RandomResizedCrop].scale, ours[RandomResizedCrop].ratio)
        maybe = next(one for one in made if isinstance(one, v2.RandomApply))
        jitter, theirs = ours[ColourJitter], maybe.transforms[0]
        assert maybe.p == jitter.p
        for strength, (low, high) in (
            (jitter.brightness, theirs.brightness),
            (jitter.contrast, theirs.contrast),
            (jitter.saturation, theirs.saturation),
        ):
            assert (low, high) == pytest.approx((1 - strength, 1 + strength))
        assert theirs.hue == pytest.approx((-jitter.hue, jitter.hue))
        assert next(one.p for one in made if isinstance(one, v2.RandomGrayscale)) == ours[Grayscale].p
        others = {type(one).__name__: getattr(one, "prob", None) for one in made}
        assert others["GaussianBlur"] == getattr(ours.get(GaussianBlur), "p", 0.0)
        assert (others.get("RandomSolarization") or 0.0) == getattr(ours.get(Solarize), "p", 0.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "auh"], "--method: is 'auh'; lightly is compared with simclr, vicreg, barlow_twins"),
        (
            ["--set", "augmentation=swav"],
            "--set augmentation: is 'swav'; lightly is compared with simclr,",
        ),
        ([], "data.source digits: is of grey images; lightly's transforms are for colour"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(spherebench: Command, arguments: list[str], sentence: str) -> None:
    asked = ("--scope", "epoch", "--reference", "--set", "data.source=digits", "--set", "data.image_size=null")
    result = spherebench("cost", *asked, *arguments)
    assert result.exit_code == 2
    assert sentence in result.output.replace("\n", " ")
