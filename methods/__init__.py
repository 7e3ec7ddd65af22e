"""What is compared: rotation-invariant kernels, the losses built on them and their baselines.

Losses are pure functions of two or more views' embeddings, `from methods import sfrik`; see `methods.losses.base.Loss`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Loss": "losses.base",
    "Pairing": "pairing",
    "RotationInvariantKernel": "kernels.kernel",
    "make_kernel": "kernels.kernel",
    "mmd": "losses.regularisers",
    "sfrik": "losses.regularisers",
    "auh": "losses.regularisers",
    "vicreg": "losses.infomax",
    "barlow_twins": "losses.infomax",
    "simclr": "losses.contrastive",
    "simclr_sfrik": "losses.contrastive",
    "dcl": "losses.contrastive",
    "spectral": "losses.contrastive",
    "zonal_mmd": "losses.zonal",
    "zonal_ksd": "losses.zonal",
    "zonal_kl": "losses.zonal",
    "sigreg": "losses.slices",
    "susreg": "losses.slices",
    "visreg": "losses.slices",
    "frossl": "losses.spectra",
    "wasserstein": "losses.spectra",
    "vne": "losses.spectra",
    "mmcr": "losses.spectra",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a name from its module when it is first asked for: `import methods` alone imports no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
