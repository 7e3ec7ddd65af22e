"""What views of images in files cost: CPU time of the loading processes by stage, the device's part, and waiting.

On photographs of ImageNet's size, 500 x 375 pixels and 60 kB, made of smaller ones: enlarged, with Gaussian noise,
which a JPEG of an enlarged picture would lack. For comparison the same recipe by torchvision's pipeline
(``transforms.v2``), an image at a time in the loading process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmark.cost.losses import timed
from benchmark.cost.waiting import Waited, children
from benchmark.data.folders import IMAGE_SUFFIXES
from benchmark.data.images import OF_IMAGENET, FileImages, Input
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.progress import quartiles
from benchmark.runtime.seeds import fork_rng
from benchmark.views import batched, recipe, recipes
from benchmark.views.batched import central_crop, resized
from benchmark.views.draws import view_key
from benchmark.views.files import random_crops
from benchmark.views.loader import ViewLoader

if TYPE_CHECKING:  # which builds on this module
    from benchmark.cost.sweep import Cell

SIZE, NOISE, QUALITY = (500, 375), 6.0, 92
PHOTOGRAPHS = 128
TURNS, EPOCHS, STEPS = 7, 3, 4  # in turns ours and theirs; epochs, and steps of each, that are waited for

Transform = Callable[[Tensor], tuple[Tensor, ...]]


def measure(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Fields of a record: seconds an image, all its views together; of ours by stage. The median of several batches."""
    recipe_, side, size = recipe(cell.method), cell.embedding_dim, cell.batch_size
    with TemporaryDirectory() as scratch:
        images = photographs(Path(cell.data or ""), Path(scratch))
        file_bytes = np.mean([Path(os.fsdecode(path)).stat().st_size for path in images.paths])
        work = partial(random_crops, images, recipe_, side, 0)
        transforms = [transform(view, side) for view in recipe_.views]
        taken: dict[str, list[float]] = {name: [] for name in ("decode", "loading", "device", "reference")}
        for turn in range(-1, TURNS):  # the first is not counted
            numbers = [(turn * size + number) % len(images) for number in range(size)]
            found = {"decode": _cpu(partial(_decode, images, numbers))[0]}
            places = [(turn + 1, index) for index in numbers]
            found["loading"], crops = _cpu(partial(work, places))
            finish = partial(_finish, recipe_, [crop.to(device) for crop in crops], side, turn + 1, numbers)
            found["device"] = (_cpu(finish) if device.type == "cpu" else timed(finish, device))[0]
            if cell.reference:
                found["reference"] = _cpu(partial(_plainly, images, transforms, places))[0]
            for name, seconds in found.items():
                taken[name] += [seconds / size] if turn >= 0 else []
        waits = _waits(images, cell, device)
    own, theirs = quartiles(taken["loading"]), quartiles(taken["reference"])
    medians = {name: float(np.median(taken[name])) for name in ("decode", "device")}
    batch = size * (own.median + medians["device"]) if own else 0.0
    crop = float(np.median(np.subtract(taken["loading"], taken["decode"])))
    phases = {**medians, "crop": crop, **waits, "batch": batch}
    sent = sum(crop.numel() for crop in crops)
    return {
        "measured": {"seconds": own, "peak_bytes": sent, "phases": phases},
        "reference": {"seconds": theirs, "peak_bytes": sent} if theirs else None,
        "reference_status": "done" if theirs else None,
        "network": f"{SIZE[0]} x {SIZE[1]} pixels, {file_bytes / 1e3:.0f} kB",
    }


def _cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process on a core, whoever else wanted it, and what the call gives."""
    began = time.process_time()
    given = call()
    return time.process_time() - began, given


def _finish(recipe_: recipes.Recipe, raw: Sequence[Tensor], side: int, epoch: int, numbers: list[int]) -> None:
    images_n = np.array(numbers)
    for number, (view, x_NCHW) in enumerate(zip(recipe_.views, raw, strict=True)):
        todo, own = batched.steps(view, images_n, side, view_key(0, epoch, number)), view.side(side)
        room = [torch.empty(len(numbers), 3, own, own, device=x_NCHW.device) for _ in range(view.count)]
        batched.views(todo, x_NCHW, room)


def _waits(images: FileImages, cell: Cell, device: torch.device) -> dict[str, float]:
    """How long the batches of some epochs are waited for, of one loading process: the least and the most."""
    part = images.subset(np.arange(STEPS * cell.batch_size) % len(images))
    input, process, others = Input(3, cell.embedding_dim, *OF_IMAGENET), Process(device), children()
    loader = ViewLoader(part, recipe(cell.method), input, process, batch_size=cell.batch_size, seed=0, workers=1)
    steps = (batch for epoch in range(EPOCHS + 1) for batch in loader.epoch(epoch))
    for _ in islice(steps, STEPS):
        pass  # it starts its process
    waited = Waited(steps, children() - others)
    for _ in waited:
        pass
    return {"shortest_wait": min(waited.seconds), "longest_wait": max(waited.seconds)}


def photographs(source: Path, folder: Path) -> FileImages:
    """:data:`PHOTOGRAPHS` of those below ``source``, enlarged and with noise, written into ``folder``.

    Raises :class:`UserError` where there are none.
    """
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"--data {source}: holds no images; photographs of any size do, such as those of Imagenette")
    random, paths = np.random.RandomState(0), []
    for number in range(PHOTOGRAPHS):
        with PIL.Image.open(found[number * len(found) // PHOTOGRAPHS]) as image:
            large = np.asarray(image.convert("RGB").resize(SIZE, PIL.Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = np.clip(large + NOISE * random.randn(*large.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:04d}.jpg")
        PIL.Image.fromarray(noisy).save(paths[-1], quality=QUALITY)
    return FileImages(np.array([os.fsencode(path) for path in paths]), np.zeros(PHOTOGRAPHS, dtype=np.int64))


def _decode(images: FileImages, numbers: Sequence[int]) -> list[Tensor]:
    return [images.image(index) for index in numbers]


def _plainly(images: FileImages, transforms: Sequence[Transform], places: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Views (C, side, side) as torchvision makes them, one image after the other, decoded by Pillow; batched."""
    made: list[list[Tensor]] = []
    for epoch, index in places:
        with PIL.Image.open(os.fsdecode(images.paths[index])) as image:
            image_CHW = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        made.append([])
        for view, transform in enumerate(transforms):
            with fork_rng(0, epoch, index, view):
                made[-1] += transform(image_CHW)
    return default_collate(made)


def transform(view: recipes.View, image_size: int) -> Transform:
    """uint8 (C, H, W) of any size to uint8 views (C, side, side). Draws from torch's global generator."""
    whole = view.whole(image_size)
    operations = v2.Compose([_torchvision(operation, whole) for operation in view.operations])
    return partial(_views, view.patches, operations, view.side(image_size))


def _views(patches: recipes.Patches | None, operations: v2.Compose, side: int, x_CHW: Tensor) -> tuple[Tensor, ...]:
    made_CHW = operations(x_CHW)
    if patches is None:
        return (made_CHW,)
    whole, grid = made_CHW.shape[-1], patches.grid
    jitter = round(patches.jitter * whole / patches.of)
    stride = (whole - side - jitter) // (grid - 1)
    cells = torch.randperm(grid**2)[: patches.count].tolist()
    moved = torch.randint(jitter + 1, (patches.count, 2)).tolist()
    return tuple(
        F.crop(made_CHW, stride * (cell // grid) + down, stride * (cell % grid) + right, side, side)
        for cell, (down, right) in zip(cells, moved, strict=True)
    )


def _torchvision(operation: recipes.Operation, image_size: int) -> object:
    match operation:
        case recipes.CentralCrop(interpolation):
            return partial(central_crop, image_size=image_size, interpolation=interpolation)
        case recipes.RandomResizedCrop(scale, ratio, interpolation):
            mode = v2.InterpolationMode(interpolation)
            return v2.RandomResizedCrop(image_size, scale, ratio, interpolation=mode, antialias=True)
        case recipes.RandomCrop(interpolation):
            square = partial(resized, image_size=image_size, interpolation=interpolation)
            return v2.Compose([square, v2.RandomCrop(image_size)])
        case recipes.HorizontalFlip(p):
            return v2.RandomHorizontalFlip(p)
        case recipes.ColourJitter(brightness, contrast, saturation, hue, p):
            return v2.RandomApply([v2.ColorJitter(brightness, contrast, saturation, hue)], p)
        case recipes.Grayscale(p):
            return v2.RandomGrayscale(p)
        case recipes.GaussianBlur(p):
            return v2.RandomApply([partial(_random_blur, blur=operation)], p)
        case recipes.Solarize(p):
            return v2.RandomSolarize(threshold=128, p=p)
        case recipes.Affine(degrees, shear, translate, zoom):
            bilinear = v2.InterpolationMode.BILINEAR
            shift = (translate, translate)
            return v2.RandomAffine(degrees, shift, zoom, shear, interpolation=bilinear, fill={torch.Tensor: None})


def _random_blur(x_CHW: Tensor, blur: recipes.GaussianBlur) -> Tensor:
    """One axis after the other: a fifth of the time of torchvision's two-dimensional kernel at 224 pixels."""
    radius = min(blur.radius, min(x_CHW.shape[-2:]) - 1)
    width, drawn = 2 * radius + 1, torch.empty(1).uniform_(*blur.sigma).item()
    blurred = x_CHW.float()
    for kernel in ([width, 1], [1, width]):
        blurred = F.gaussian_blur(blurred, kernel, [drawn, drawn])
    return blurred.round_().to(torch.uint8)
