"""The methods that are compared: the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .contrastive import simclr, simclr_sfrik, spectral
from .infomax import barlow_twins, vicreg
from .loss import Loss
from .method import SIM_COEFF, Method, split_kernel
from .regularisers import auh, mmd, sfrik

ZHENG = "Zheng et al., Self-supervised learning with rotation-invariant kernels, ICLR 2023 (arXiv 2208.00789)"
SFRIK_SIM = "published code, SFRIK on 20 % ImageNet and STL-10: sim_coeff 4000 at D = 8192, over D"
AUH_SIM = "published code of Zheng et al., AUH on 20 % ImageNet: sim_coeff 3000 at D = 8192, over D"

_METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method under its name. Raises ValueError where the name is taken or a default has no stated origin."""
    if method.name in _METHODS:
        raise ValueError(f"a method named {method.name!r} is registered already")
    unexplained = set(method.defaults) ^ set(method.origin)
    if unexplained:
        raise ValueError(f"method {method.name!r}: defaults and origins differ in {sorted(unexplained)}")
    _METHODS[method.name] = method
    return method


def names() -> tuple[str, ...]:
    """Names of the registered methods, in order of registration."""
    return tuple(_METHODS)


def get(name: str) -> Method:
    """The method of that name. Raises ValueError listing what there is."""
    if name not in _METHODS:
        raise ValueError(f"unknown method {name!r}: there is {', '.join(_METHODS)}")
    return _METHODS[name]


def _mmd_by_name(views: Sequence[Tensor], *, kernel: str, **options: Any) -> Loss:
    """`mmd` with the kernel given by name and parameters."""
    made, rest = split_kernel({"kernel": kernel, **options}, views[0].shape[1])
    return mmd(views, kernel=made, **rest)


def _sfrik(degree: int, weights: tuple[float, ...], origin: str) -> None:
    register(
        Method(
            name=f"sfrik_l{degree}",
            title=f"SFRIK, L = {degree}",
            source=ZHENG,
            loss=sfrik,
            defaults={"weights": weights, "align_weight": 4000 / 8192, "reg_weight": 1.0},
            origin={"weights": origin, "align_weight": SFRIK_SIM, "reg_weight": "published code: mmd_coeff 1"},
        )
    )


_sfrik(1, (1.0,), "our choice: the first weight of L = 3; not published for L = 1")
_sfrik(2, (1.0, 40.0), "our choice: the first two weights of L = 3; not published for L = 2")
_sfrik(3, (1.0, 40.0, 40.0), "published code: sfrik_weights 1.0-40.0-40.0")

register(
    Method(
        name="mmd",
        title="MMD to the uniform distribution",
        source=ZHENG,
        loss=_mmd_by_name,
        defaults={
            "kernel": "rbf",
            "s": 2.5,
            "statistic": "V",
            "log": False,
            "align_weight": 3000 / 8192,
            "reg_weight": 1.0,
        },
        origin={
            "kernel": "our choice: the kernel of uniformity",
            "s": "published code: auh_scale 2.5",
            "statistic": "published code: SFRIK averages over all pairs",
            "log": "the MMD itself; its logarithm is the method auh",
            "align_weight": AUH_SIM,
            "reg_weight": "our choice",
        },
    )
)
register(
    Method(
        name="auh",
        title="Alignment and uniformity",
        source="Wang and Isola, Understanding contrastive representation learning through alignment and uniformity on "
        "the hypersphere, ICML 2020 (arXiv 2005.10242), as run in Zheng et al. 2023",
        loss=auh,
        defaults={"scale": 2.5, "align_weight": 3000 / 8192, "reg_weight": 1.0},
        origin={
            "scale": "published code of Zheng et al.: auh_scale 2.5",
            "align_weight": AUH_SIM,
            "reg_weight": "published code of Zheng et al.: unif_coeff 1",
        },
    )
)
register(
    Method(
        name="vicreg",
        title="VICReg",
        source="Bardes et al., VICReg: variance-invariance-covariance regularization, ICLR 2022 (arXiv 2105.04906)",
        loss=vicreg,
        defaults={SIM_COEFF: 25.0, "variance_weight": 25.0, "covariance_weight": 1.0},
        origin={
            SIM_COEFF: "published code: sim_coeff 25, kept at every D since each coordinate has variance 1",
            "variance_weight": "published code: std_coeff 25",
            "covariance_weight": "published code: cov_coeff 1",
        },
    )
)
register(
    Method(
        name="barlow_twins",
        title="Barlow Twins",
        source="Zbontar et al., Barlow Twins: self-supervised learning via redundancy reduction, ICML 2021 "
        "(arXiv 2103.03230)",
        loss=barlow_twins,
        defaults={"off_diagonal_weight": 0.0051},
        origin={"off_diagonal_weight": "published code: lambd 0.0051"},
    )
)
register(
    Method(
        name="simclr",
        title="SimCLR",
        source="Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020 "
        "(arXiv 2002.05709)",
        loss=simclr,
        defaults={"temperature": 0.1},
        origin={"temperature": "published: the best of 0.05 to 1 on ImageNet"},
    )
)
register(
    Method(
        name="simclr_sfrik",
        title="SimCLR, SFRIK repository",
        source=f"Chen et al. 2020, as run in {ZHENG}",
        loss=simclr_sfrik,
        defaults={"temperature": 0.15},
        origin={"temperature": "published code, SimCLR on 20 % ImageNet: simclr_temp 0.15"},
    )
)
register(
    Method(
        name="spectral",
        title="Spectral contrastive",
        source="HaoChen et al., Provable guarantees for self-supervised deep learning with spectral contrastive loss, "
        "NeurIPS 2021 (arXiv 2106.04156)",
        loss=spectral,
        defaults={"reg_weight": 1.0},
        origin={"reg_weight": "published code: mu 1"},
    )
)
