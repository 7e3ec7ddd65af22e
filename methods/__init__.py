"""What is compared: rotation-invariant kernels, the losses built on them and their baselines.

Losses are pure functions of two or more views' embeddings, `from methods import sfrik`; see `methods.losses.base.Loss`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "losses.base": ("Loss",),
    "pairing": ("Pairing",),
    "kernels.kernel": ("RotationInvariantKernel", "make_kernel"),
    "losses.regularisers": ("mmd", "sfrik", "auh"),
    "losses.infomax": ("vicreg", "barlow_twins"),
    "losses.contrastive": ("simclr", "simclr_sfrik", "dcl", "spectral"),
    "losses.zonal": ("zonal_mmd", "zonal_ksd", "zonal_kl"),
    "losses.slices": ("sigreg", "susreg", "visreg"),
    "losses.spectra": ("frossl", "wasserstein", "vne", "mmcr"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import a name from its module when it is first asked for: `import methods` alone imports no torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value
