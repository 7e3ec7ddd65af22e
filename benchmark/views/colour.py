"""Colour operations on float images in [0, 1], with a factor of its own for every image.

Formulas and constants are torchvision's (``torchvision.transforms.v2.functional``), so that both executors agree.
Images of one channel are their own grey: saturation and hue leave them as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grey(x_NCHW: Tensor) -> Tensor:
    """Luma (N, 1, H, W) = 0.2989 R + 0.587 G + 0.114 B."""
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def adjust_brightness(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    return (x_NCHW * _broadcast(factor_N)).clamp_(0, 1)


def adjust_contrast(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Away from the mean of the image's luma."""
    return _blend(grey(x_NCHW).mean(dim=(1, 2, 3), keepdim=True), x_NCHW, factor_N)


def adjust_saturation(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Away from every pixel's luma."""
    return _blend(grey(x_NCHW), x_NCHW, factor_N)


def adjust_hue(x_NCHW: Tensor, shift_N: Tensor) -> Tensor:
    """Turn the hue by ``shift`` turns at constant value and saturation (HSV).

    With V the largest channel, m the least and h the hue in sixths of a turn, a colour is
    V - (V - m) clamp(min(k, 4 - k), 0, 1), where k = (h + 5, 3, 1) mod 6 for red, green and blue.
    """
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixths = _hue_in_sixths(red, green, blue, value, chroma) + 6 * _broadcast(shift_N)
    offset = torch.tensor([5.0, 3.0, 1.0], device=x_NCHW.device).view(1, 3, 1, 1)
    k_NCHW = (sixths + offset).remainder_(6)
    weight = torch.minimum(k_NCHW, 4 - k_NCHW).clamp_(0, 1)
    return torch.addcmul(value, weight, chroma, value=-1)


def _hue_in_sixths(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    is_red, is_green = value == red, value == green
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    side = torch.where(is_green, 2.0, 4.0).masked_fill_(is_red, 0.0)
    # A grey pixel has no hue: its differences are all zero, whatever they are divided by.
    return difference / chroma.clamp(min=torch.finfo(chroma.dtype).tiny) + side


def _blend(base: Tensor, x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    return torch.lerp(base, x_NCHW, _broadcast(factor_N)).clamp_(0, 1)


def _broadcast(factor_N: Tensor) -> Tensor:
    return factor_N.view(-1, 1, 1, 1)
