"""What is done to an image to make its views: declarative values, applied in the order they are written.

Pixels lie in [0, 1]. Sizes are those of data whose views have 224 pixels (:data:`SIDE`), as published; with other data
they are in proportion.
"""

from dataclasses import dataclass
from typing import Literal

from benchmark.runtime.errors import UserError
from methods import Pairing

Interpolation = Literal["bicubic", "bilinear"]
Role = Literal["large", "small", "original"]
SIDE = 224
RESIZE_OVER_CROP = 256 / 224  # of the shorter side, before a square is cut out


@dataclass(frozen=True)
class CentralCrop:
    """The shorter side resized to 256/224 of the view's, then the central square; an image of that size stays."""

    interpolation: Interpolation = "bicubic"


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


Crop = CentralCrop | RandomResizedCrop | RandomCrop
Operation = Crop | HorizontalFlip | ColourJitter | Grayscale | GaussianBlur | Solarize | Affine


@dataclass(frozen=True)
class Patches:
    """``count`` different cells of a ``grid`` x ``grid`` of overlapping patches, each moved by 0 to ``jitter`` pixels.

    Of a square of ``of`` pixels; cell (i, j) begins at (i, j) · (of - size - jitter) / (grid - 1), for patches of
    ``size`` pixels (Gidaris et al., OBoW, CVPR 2021).
    """

    count: int
    of: int
    jitter: int
    grid: int = 3


@dataclass(frozen=True)
class View:
    """One view of an image: what is done to it, its side in pixels and its role; or patches of one, each a view.

    Raises ``ValueError`` unless it begins with a crop, and flips, if at all, right after: an image is decoded, cropped,
    resized and flipped in one place, and the rest is done to whole batches in another. A flip changes places with
    every operation but the affine one, whose draws are as often to one side as to the other.
    """

    operations: tuple[Operation, ...]
    size: int = SIDE
    role: Role = "large"
    patches: Patches | None = None

    def __post_init__(self) -> None:
        crop, *others = self.operations or [None]
        lost = any(isinstance(other, Crop) for other in others) or HorizontalFlip in map(type, others[1:])
        if not isinstance(crop, Crop) or lost:
            raise ValueError(f"a view is a crop, a flip maybe, and other operations, not {self.operations}")

    @property
    def crop(self) -> Crop:
        """Its first operation."""
        crop = self.operations[0]
        assert isinstance(crop, Crop)
        return crop

    @property
    def flip(self) -> float:
        """With what probability it is flipped."""
        return sum(operation.p for operation in self.operations if isinstance(operation, HorizontalFlip))

    @property
    def count(self) -> int:
        """Views that it gives."""
        return self.patches.count if self.patches else 1

    def side(self, image_size: int) -> int:
        """Its side in pixels with data whose views have ``image_size``."""
        return in_proportion(self.size, image_size)

    def whole(self, image_size: int) -> int:
        """The side of what the operations make, which patches are then cut from."""
        return in_proportion(self.patches.of if self.patches else self.size, image_size)


def in_proportion(size: int, image_size: int) -> int:
    """Pixels that stand for ``size`` of :data:`SIDE`."""
    return round(size * image_size / SIDE)


@dataclass(frozen=True)
class Recipe:
    """The views of an image, which of them are aligned and regularised, and where they come from.

    ``pairing`` None: as every loss takes views by default. ``joint``: views of one size go through the network in one
    pass, which normalises over all of them, as published for several crops; else each view in a pass of its own.
    Raises ``ValueError`` where the pairing is of another number of views.
    """

    name: str
    source: str
    views: tuple[View, ...]
    pairing: Pairing | None = None
    joint: bool = False

    def __post_init__(self) -> None:
        if len(self.views) > 1:
            Pairing.of(self.pairing, self.count)

    @property
    def count(self) -> int:
        """Views of an image."""
        return sum(view.count for view in self.views)

    def sides(self, image_size: int) -> tuple[int, ...]:
        """The side of every view with data whose views have ``image_size`` pixels."""
        return tuple(view.side(image_size) for view in self.views for _ in range(view.count))


_CROP_AND_FLIP = (RandomResizedCrop(), HorizontalFlip())


def _vicreg_view(blur: float, solarize: float) -> View:
    jitter = ColourJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
    return View((*_CROP_AND_FLIP, jitter, Grayscale(), GaussianBlur(blur), Solarize(solarize)))


def _crop(scale: tuple[float, float], interpolation: Interpolation = "bilinear") -> tuple[Operation, ...]:
    return RandomResizedCrop(scale, interpolation=interpolation), HorizontalFlip()


_SIMCLR_COLOUR = (ColourJitter(0.8, 0.8, 0.8, 0.2, p=0.8), Grayscale(), GaussianBlur(0.5))
_SIMCLR_VIEW = View((*_CROP_AND_FLIP, *_SIMCLR_COLOUR))
_SIMCLR_SMALL_VIEW = View((*_CROP_AND_FLIP, ColourJitter(0.4, 0.4, 0.4, 0.1, p=0.8), Grayscale()))
_AUH_VIEW = View((*_CROP_AND_FLIP, ColourJitter(0.4, 0.4, 0.4, 0.4), Grayscale()))
_GREY_VIEW = View(
    (
        CentralCrop(),
        Affine(degrees=15, shear=10, translate=0.1, zoom=(0.8, 1.2)),
        ColourJitter(0.4, 0.4, 0.0, 0.0, p=0.8),
    )
)

# The original without colour, two crops, and five of nine patches of a third. Flips come first here, and last as
# published: they change places with all that follows.
_OBOW_COLOUR = (ColourJitter(0.4, 0.4, 0.4, 0.4, p=0.8), Grayscale())
_OBOW = (
    View((CentralCrop("bilinear"), HorizontalFlip()), role="original"),
    *[View((*_crop((0.08, 0.6)), *_OBOW_COLOUR, GaussianBlur(0.5)), 160)] * 2,
    View((*_crop((0.6, 1.0)), *_OBOW_COLOUR), 96, "small", Patches(5, of=256, jitter=24)),
)
_SWAV = (
    *[View((*_crop((0.14, 1.0)), *_SIMCLR_COLOUR))] * 2,
    *[View((*_crop((0.05, 0.14)), *_SIMCLR_COLOUR), 96, "small")] * 6,
)
_LEJEPA_COLOUR = (ColourJitter(0.4, 0.4, 0.2, 0.1, p=0.8), Grayscale(), GaussianBlur(0.5), Solarize(0.2))
_LEJEPA = (
    *[View((*_crop((0.3, 1.0), "bicubic"), *_LEJEPA_COLOUR))] * 2,
    *[View((*_crop((0.05, 0.3), "bicubic"), *_LEJEPA_COLOUR), 98, "small")] * 6,
)
_SFRIK = "as run in the published code of SFRIK (Zheng et al. 2023)"

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("vicreg", "Bardes et al. 2022, also used by SFRIK", (_vicreg_view(1.0, 0.0), _vicreg_view(0.1, 0.2))),
        Recipe("simclr", "Chen et al. 2020", (_SIMCLR_VIEW, _SIMCLR_VIEW)),
        Recipe("simclr_small", "Chen et al. 2020, appendix B.9, CIFAR-10", (_SIMCLR_SMALL_VIEW, _SIMCLR_SMALL_VIEW)),
        Recipe("auh", "Wang and Isola 2020, STL-10", (_AUH_VIEW, _AUH_VIEW)),
        Recipe("grey", "this project, for small grey images", (_GREY_VIEW, _GREY_VIEW)),
        Recipe("obow", f"Gidaris et al. 2021, {_SFRIK}", _OBOW, Pairing.obow(), joint=True),
        Recipe("swav", f"Caron et al. 2020, {_SFRIK}", _SWAV, Pairing.swav(), joint=True),
        Recipe("lejepa", "Balestriero and LeCun 2025 (arXiv 2511.08544)", _LEJEPA, Pairing.centre(), joint=True),
    )
}

PROBE_CROPS = Recipe("crops", "training of the linear probe, Zheng et al. 2023", (View(_crop((0.08, 1.0))),))
PROBE_SQUARES = Recipe(
    "squares",
    "training of the linear probe on Places205, Gidaris et al. 2021 (OBoW)",
    (View((RandomCrop("bilinear"), HorizontalFlip())),),
)


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises :class:`UserError` where there is none."""
    if name not in RECIPES:
        raise UserError(f"augmentation: is {name!r}, must be one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
