"""The methods that are compared: the catalogue."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .kernels.kernel import MAKERS, Makers
from .losses import contrastive, infomax, regularisers, slices, spectra, zonal
from .losses.base import Loss
from .method import Method, split_kernel

ZHENG = "Zheng et al., Self-supervised learning with rotation-invariant kernels, ICLR 2023 (arXiv 2208.00789)"
SFRIK_SIM = "published code, SFRIK on 20 % ImageNet and STL-10: sim_coeff 4000 at D = 8192, over D"
SPHERE_JEPA = "Expanding SPHERE-JEPA: zonal tests of uniformity (arXiv 2606.17603)"
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
    return regularisers.mmd(views, kernel=made, **rest)


def _add(
    title: str,
    source: str,
    loss: Callable[..., Loss],
    textbook: Callable[..., Tensor] | None = None,
    name: str | None = None,
    published_form: str | None = None,
    kernels: Makers = MAKERS,
    draws: bool = False,
    squared: bool = True,
    **options: tuple[Any, str],
) -> None:
    """Register a method, by the name of its loss, with its options: each a default and where that comes from."""
    defaults, origin = ({option: both[part] for option, both in options.items()} for part in (0, 1))
    name = name or loss.__name__
    register(Method(name, title, source, loss, defaults, origin, textbook, published_form, kernels, draws, squared))


for weights, origin in (
    ((1.0,), "our choice: the first weight of L = 3; not published for L = 1"),
    ((1.0, 40.0), "our choice: the first two weights of L = 3; not published for L = 2"),
    ((1.0, 40.0, 40.0), "published code: sfrik_weights 1.0-40.0-40.0"),
):
    _add(
        f"SFRIK, L = {len(weights)}",
        ZHENG,
        regularisers.sfrik,
        regularisers.sfrik_textbook,
        name=f"sfrik_l{len(weights)}",
        weights=(weights, origin),
        align_weight=(4000 / 8192, SFRIK_SIM),
        reg_weight=(1.0, "published code: mmd_coeff 1"),
    )
_add(
    "MMD to the uniform distribution",
    ZHENG,
    _mmd_by_name,
    name="mmd",
    kernel=("rbf", "our choice: the kernel of uniformity"),
    s=(2.5, "published code: auh_scale 2.5"),
    statistic=("V", "published code: SFRIK averages over all pairs"),
    log=(False, "the MMD itself; its logarithm is the method auh"),
    align_weight=(3000 / 8192, AUH_SIM),
    reg_weight=(1.0, "our choice"),
)
_add(
    "Alignment and uniformity",
    "Wang and Isola, Understanding contrastive representation learning through alignment and uniformity on "
    "the hypersphere, ICML 2020 (arXiv 2005.10242), as run in Zheng et al. 2023",
    regularisers.auh,
    regularisers.auh_textbook,
    scale=(2.5, "published code of Zheng et al.: auh_scale 2.5"),
    align_weight=(3000 / 8192, AUH_SIM),
    reg_weight=(1.0, "published code of Zheng et al.: unif_coeff 1"),
)
_add(
    "VICReg",
    "Bardes et al., VICReg: variance-invariance-covariance regularization, ICLR 2022 (arXiv 2105.04906)",
    infomax.vicreg,
    infomax.vicreg_textbook,
    published_form="primal",
    published_sim_coeff=(
        25.0,
        "published code: sim_coeff 25, kept at every D since each coordinate has variance 1",
    ),
    variance_weight=(25.0, "published code: std_coeff 25"),
    covariance_weight=(1.0, "published code: cov_coeff 1"),
)
_add(
    "Barlow Twins",
    "Zbontar et al., Barlow Twins: self-supervised learning via redundancy reduction, ICML 2021 (arXiv 2103.03230)",
    infomax.barlow_twins,
    infomax.barlow_twins_textbook,
    published_form="primal",
    off_diagonal_weight=(0.0051, "published code: lambd 0.0051"),
)
_add(
    "SimCLR",
    "Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020 (arXiv 2002.05709)",
    contrastive.simclr,
    contrastive.simclr_textbook,
    temperature=(0.1, "published: the best of 0.05 to 1 on ImageNet"),
)
_add(
    "SimCLR, SFRIK repository",
    f"Chen et al. 2020, as run in {ZHENG}",
    contrastive.simclr_sfrik,
    contrastive.simclr_sfrik_textbook,
    temperature=(0.15, "published code, SimCLR on 20 % ImageNet: simclr_temp 0.15"),
)
_add(
    "DCL",
    "Yeh et al., Decoupled contrastive learning, ECCV 2022 (arXiv 2110.06848)",
    contrastive.dcl,
    contrastive.dcl_textbook,
    temperature=(0.1, "published: temperature 0.1"),
)
_add(
    "Spectral contrastive",
    "HaoChen et al., Provable guarantees for self-supervised deep learning with spectral contrastive loss, "
    "NeurIPS 2021 (arXiv 2106.04156)",
    contrastive.spectral,
    contrastive.spectral_textbook,
    reg_weight=(1.0, "published code: mu 1"),
)
for title, loss, textbook in (
    ("Zonal MMD", zonal.zonal_mmd, zonal.zonal_mmd_textbook),
    ("Zonal KSD", zonal.zonal_ksd, zonal.zonal_ksd_textbook),
):
    _add(
        title,
        SPHERE_JEPA,
        loss,
        textbook,
        kernels=zonal.ZONAL_KERNELS,
        kernel=("heat", "published: one of three"),
        t=(5.0, "published: time 5/d"),
        degree=(2, "published: L = 2"),
        s=(2.5, "published code of Zheng et al.: auh_scale 2.5"),
        weight=(0.05, "published: lambda 0.05"),
    )
_add(
    "Zonal KL",
    SPHERE_JEPA,
    zonal.zonal_kl,
    zonal.zonal_kl_textbook,
    kernels=zonal.POSITIVE_KERNELS,
    kernel=("heat", "published"),
    t=(2.0, "published: time 2/d"),
    s=(2.5, "published code of Zheng et al.: auh_scale 2.5"),
    weight=(0.5, "published: lambda 0.5, with the published normaliser"),
    normaliser=(None, "published: log |S^(D-1)|, here from D = 32 on, below which it makes no test"),
)
_KNOTS: dict[str, Any] = {
    "slices": (1024, "published: 1,024 directions a step"),
    "knots": (17, "published: 17 knots"),
    "t_max": (3.0, "published: knots from 0 to 3"),
}
_add(
    "LeJEPA (SIGReg)",
    "Balestriero and LeCun, LeJEPA: provable and scalable self-supervised learning without the heuristics, 2025 "
    "(arXiv 2511.08544)",
    slices.sigreg,
    slices.sigreg_textbook,
    draws=True,
    weight=(0.05, "published: λ 0.05 (in the minimal recipe 0.02)"),
    **_KNOTS,
)
_add(
    "SPHERE-JEPA (SUSReg)",
    "SPHERE-JEPA, 2026 (arXiv 2605.26900)",
    slices.susreg,
    slices.susreg_textbook,
    draws=True,
    weight=(0.05, "published: λ 0.05 (Expanding SPHERE-JEPA, arXiv 2606.17603)"),
    **_KNOTS,
)
_add(
    "VISReg",
    "VISReg, 2026 (arXiv 2606.02572)",
    slices.visreg,
    slices.visreg_textbook,
    draws=True,
    weight=(0.6, "published: λ 0.6 on small data (on ImageNet 0.9)"),
    slices=(4096, "published: 4,096 directions a step"),
    centre_weight=(1.0, "published: the three terms weigh alike"),
    scale_weight=(1.0, "published: the three terms weigh alike"),
    shape_weight=(1.0, "published: the three terms weigh alike"),
)
_add(
    "FroSSL",
    "Skean et al., FroSSL: Frobenius norm minimization for efficient multiview self-supervised learning, ECCV 2024 "
    "(arXiv 2310.02903)",
    spectra.frossl,
    spectra.frossl_textbook,
    published_form="primal",
    squared=False,  # of normalised columns, times the number of pairs
    align_weight=(1.0, "published: the invariance weighs 1 (sums over D and views)"),
)
_add(
    "Wasserstein uniformity",
    "Fang et al., Rethinking the uniformity metric in self-supervised learning, ICLR 2024 (arXiv 2403.00642)",
    spectra.wasserstein,
    spectra.wasserstein_textbook,
    published_form="primal",
    align_weight=(1.0, "our choice: as in BYOL, beside which it was published"),
    reg_weight=(2.0, "our choice: on the digits 1 collapses and 3 does not align; published beside BYOL with 0.2"),
)
_add(
    "I-VNE+",
    "Kim et al., VNE: an effective method for improving deep representation by manipulating eigenvalue distribution, "
    "CVPR 2023 (arXiv 2304.01434)",
    spectra.vne,
    spectra.vne_textbook,
    squared=False,  # a cosine
    align_weight=(spectra.VNE_ALIGN, "published code: alpha_1 4.16, log 64 for its batch of 64"),
    entropy_weight=(1.0, "published code: alpha_2 1"),
)
_add(
    "MMCR",
    "Yerxa et al., Learning efficient coding of natural images with maximum manifold capacity representations, "
    "NeurIPS 2023 (arXiv 2303.03307)",
    spectra.mmcr,
    spectra.mmcr_textbook,
)
