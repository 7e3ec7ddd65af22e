"""Geometry on float images, with a crop, a blur or an affine map of its own for every image.

Cropping with resize and blurring are separable and linear: a matrix for the rows and one for the columns of each
image, so that a batch is two batched matrix products. They equal torchvision's operations up to rounding.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def separable(x_NCHW: Tensor, rows_NOH: Tensor, columns_NOW: Tensor) -> Tensor:
    """Apply ``rows @ image @ columns^T`` to every channel of every image: (N, C, O, O)."""
    n, channels, height, width = x_NCHW.shape
    wide = torch.bmm(x_NCHW.reshape(n, channels * height, width), columns_NOW.mT)
    return torch.matmul(rows_NOH.unsqueeze(1), wide.view(n, channels, height, -1))


def crop_matrix(start_N: Tensor, length_N: Tensor, size: int, out: int) -> Tensor:
    """Weights (N, out, size) that crop [start, start + length) and resize it to ``out`` pixels.

    Antialiased bicubic as in Pillow and ``torch.nn.functional.interpolate(mode="bicubic", antialias=True)``: the cubic
    convolution kernel with a = -1/2, stretched by length/out where that shrinks, cut at the crop's borders.
    """
    scale = (length_N / out).view(-1, 1, 1)
    centre = scale * (torch.arange(out, device=start_N.device).view(1, -1, 1) + 0.5)
    place = torch.arange(size, device=start_N.device).view(1, 1, -1) - start_N.view(-1, 1, 1)
    weights = _cubic((place + 0.5 - centre) / scale.clamp(min=1))
    weights = weights * ((place >= 0) & (place < length_N.view(-1, 1, 1)))
    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic(t: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -1/2 (Keys 1981): its support is |t| < 2."""
    t = t.abs().clamp_(max=2)
    near = (1.5 * t - 2.5).mul_(t).mul_(t).add_(1)
    far = (2.5 - 0.5 * t).mul_(t).sub_(4).mul_(t).add_(2)
    return torch.where(t < 1, near, far)


def blur_matrix(sigma_N: Tensor, size: int, radius: int) -> Tensor:
    """Weights (N, size, size) of a Gaussian blur cut at ``radius`` < size pixels, the borders reflected."""
    offset = torch.arange(-radius, radius + 1, device=sigma_N.device)
    kernel_NK = torch.softmax(-0.5 * (offset / sigma_N.unsqueeze(1)) ** 2, dim=1)
    return (kernel_NK @ _reflected_shifts(size, radius, sigma_N.device).flatten(1)).view(-1, size, size)


@lru_cache(maxsize=16)
def _reflected_shifts(size: int, radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1, size, size): matrix k reads, for every pixel, the one k - radius further, reflected at the ends.

    The pixel beyond either end is the last but one, as with ``padding_mode="reflect"``.
    """
    source = torch.arange(size) + torch.arange(-radius, radius + 1).unsqueeze(1)
    source = (size - 1 - (source.abs() - (size - 1)).abs()).unsqueeze(-1)
    return (source == torch.arange(size)).float().to(device)


def affine(x_NCHW: Tensor, degrees_N: Tensor, shear_N: Tensor, shift_N2: Tensor, zoom_N: Tensor) -> Tensor:
    """Rotate, shear along x, zoom about the centre and shift by pixels (x, y); bilinear, zero outside.

    Angles in degrees. The map from output to input is M^-1 (q - shift) with M = zoom R(degrees) [1, -tan(shear); 0, 1].
    """
    height, width = x_NCHW.shape[-2:]
    inverse_N22 = _inverse_linear(torch.deg2rad(degrees_N), torch.deg2rad(shear_N), zoom_N)
    half = torch.tensor([width / 2, height / 2], device=x_NCHW.device)
    shifted = -(inverse_N22 @ shift_N2.unsqueeze(-1))
    # affine_grid works in units of half a side.
    theta = torch.cat([inverse_N22 * half, shifted], dim=-1) / half.unsqueeze(-1)
    grid = F.affine_grid(theta, list(x_NCHW.shape), align_corners=False)
    return F.grid_sample(x_NCHW, grid, align_corners=False)


def _inverse_linear(angle_N: Tensor, shear_N: Tensor, zoom_N: Tensor) -> Tensor:
    cos, sin, tan = angle_N.cos(), angle_N.sin(), shear_N.tan()
    rows = torch.stack([cos - sin * tan, sin + cos * tan, -sin, cos], dim=-1)
    return (rows / zoom_N.unsqueeze(-1)).view(-1, 2, 2)
