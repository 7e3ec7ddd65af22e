"""What is done to an image to make its views: declarative values, applied in the order they are written.

Pixels lie in [0, 1]. Nothing here depends on the image's size: the side of the views belongs to the data.
"""

from dataclasses import dataclass
from typing import Literal

from benchmark.runtime.errors import UserError

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class CentralCrop:
    """The shorter side resized to 256/224 of the view's, then the central square; an image of that size stays."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, ``scale`` its share of the area, ``ratio`` its width over height."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True)
class RandomCrop:
    """The shorter side resized to 256/224 of the view's, then a random square."""

    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True)
class HorizontalFlip:
    """With probability ``p``, left for right."""

    p: float = 0.5


@dataclass(frozen=True)
class ColourJitter:
    """With probability ``p``, in random order: brightness, contrast and saturation by U(1-x, 1+x), hue by U(-x, x)."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 1.0


@dataclass(frozen=True)
class Grayscale:
    """With probability ``p``, luma in all channels."""

    p: float = 0.2


@dataclass(frozen=True)
class GaussianBlur:
    """With probability ``p``, blur by a Gaussian of U(``sigma``) pixels."""

    p: float
    sigma: tuple[float, float] = (0.1, 2.0)

    @property
    def radius(self) -> int:
        """Half the width of the kernel, in pixels: three standard deviations hold 99.7 % of a Gaussian."""
        return max(1, round(3 * self.sigma[1]))


@dataclass(frozen=True)
class Solarize:
    """With probability ``p``, invert the pixels of the upper half of the range."""

    p: float


@dataclass(frozen=True)
class Affine:
    """Rotation and shear by U(-x, x) degrees, translation by a share of the side, zoom by U(``zoom``); bilinear."""

    degrees: float
    shear: float
    translate: float
    zoom: tuple[float, float]


Operation = (
    CentralCrop
    | RandomResizedCrop
    | RandomCrop
    | HorizontalFlip
    | ColourJitter
    | Grayscale
    | GaussianBlur
    | Solarize
    | Affine
)


@dataclass(frozen=True)
class Recipe:
    """The operations of every view, in order, and where they come from."""

    name: str
    source: str
    views: tuple[tuple[Operation, ...], ...]


_CROP_AND_FLIP = (RandomResizedCrop(), HorizontalFlip())


def _vicreg_view(blur: float, solarize: float) -> tuple[Operation, ...]:
    jitter = ColourJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
    return (*_CROP_AND_FLIP, jitter, Grayscale(), GaussianBlur(blur), Solarize(solarize))


_SIMCLR_VIEW = (*_CROP_AND_FLIP, ColourJitter(0.8, 0.8, 0.8, 0.2, p=0.8), Grayscale(), GaussianBlur(0.5))
_SIMCLR_SMALL_VIEW = (*_CROP_AND_FLIP, ColourJitter(0.4, 0.4, 0.4, 0.1, p=0.8), Grayscale())
_AUH_VIEW = (*_CROP_AND_FLIP, ColourJitter(0.4, 0.4, 0.4, 0.4), Grayscale())
_GREY_VIEW = (
    CentralCrop(),
    Affine(degrees=15, shear=10, translate=0.1, zoom=(0.8, 1.2)),
    ColourJitter(0.4, 0.4, 0.0, 0.0, p=0.8),
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("vicreg", "Bardes et al. 2022, also used by SFRIK", (_vicreg_view(1.0, 0.0), _vicreg_view(0.1, 0.2))),
        Recipe("simclr", "Chen et al. 2020", (_SIMCLR_VIEW, _SIMCLR_VIEW)),
        Recipe("simclr_small", "Chen et al. 2020, appendix B.9, CIFAR-10", (_SIMCLR_SMALL_VIEW, _SIMCLR_SMALL_VIEW)),
        Recipe("auh", "Wang and Isola 2020, STL-10", (_AUH_VIEW, _AUH_VIEW)),
        Recipe("grey", "this project, for small grey images", (_GREY_VIEW, _GREY_VIEW)),
    )
}

PROBE_CROPS = Recipe(
    "crops",
    "training of the linear probe, Zheng et al. 2023",
    ((RandomResizedCrop(interpolation="bilinear"), HorizontalFlip()),),
)
PROBE_SQUARES = Recipe(
    "squares",
    "training of the linear probe on Places205, Gidaris et al. 2021 (OBoW)",
    ((RandomCrop("bilinear"), HorizontalFlip()),),
)


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises :class:`UserError` where there is none."""
    if name not in RECIPES:
        raise UserError(f"augmentation: is {name!r}, must be one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
