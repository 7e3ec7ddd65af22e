"""The kind ``wide``: a ReLU network trained by gradient descent on a loss that the kernel regime solves in closed form.

z(x) = f(x; θ) − f(x; θ₀), less its mean over the training rows. From a start a little off θ₀ all rows take part in
every step θ ← θ − η∇(loss(z) + λ‖θ − θ₀‖²). As the width grows z(x) becomes linear in θ − θ₀, what is found that of the
estimator of the same loss for the network's tangent kernel, and this kernel :class:`methods.regime.NTK`.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from benchmark.data import DataSet, ImageSet
from benchmark.networks.base import WEIGHTS_NAME, Diverged, Frozen, need_images
from benchmark.networks.kernel import FittedOnRows, Rows, Views, check_rows, kept, listed, loss_options, plain_rows
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator, key
from benchmark.runtime.spec import SettingError, Spec
from results.record import Cost

if TYPE_CHECKING:
    from methods.regime.base import KernelSSL
    from methods.regime.tangent import WideReLU

WIDE_METHODS = {
    "wide_spectral": "Wide network, spectral contrastive",
    "wide_vicreg": "Wide network, VICReg",
    "wide_barlow_twins": "Wide network, Barlow Twins",
}
MOMENTS = 100  # of the descent at which its modes are kept


class MLP(Spec):
    """The network's shape."""

    width: int = Field(256, ge=1)
    depth: int = Field(1, ge=1, description="hidden layers")


class Descent(Spec):
    """Gradient descent over all rows at once, in the units of the kernel regime."""

    steps: int = Field(1500, ge=1)
    rate: float = Field(0.3, gt=0, description="of a step: in it the square of the first mode grows by e^rate")
    init_scale: float = Field(1e-6, gt=0, lt=1, description="of the start, as a part of the end, in squares")


class RidgedViews(Views):
    """What its loss relates, and how it is regularised."""

    ridge: float = Field(0.2, gt=0, lt=1, description="λ, relative: see methods.regime")


class WideNetwork(FittedOnRows):
    """The seed draws views, the network and its start."""

    kind: Literal["wide"] = "wide"
    method: Literal["wide_spectral", "wide_vicreg", "wide_barlow_twins"]
    loss: dict[str, Any] = Field(default_factory=dict, description="the method's options, resolved")
    embedding_dim: int = Field(ge=1)
    regime: RidgedViews = RidgedViews()
    mlp: MLP = MLP()
    descent: Descent = Descent()

    offers: ClassVar[frozenset[str]] = FittedOnRows.offers | {"tangent"}
    regimes = {"views": RidgedViews, "neighbours": RidgedViews}

    @property
    def title(self) -> str:
        return WIDE_METHODS[self.method]

    @property
    def closed_form(self) -> str:
        """The name of its loss in the kernel regime."""
        return self.method.replace("wide", "kernel")

    def resolved(self) -> Self:
        """Raises ``ValueError`` for an option that is not the loss's own, or a value that is not allowed."""
        if self.regime.n_views == 1:
            raise SettingError("regime.n_views", f"is 1, must be 2 or more for {self.method}, which relates views")
        return self.model_copy(update={"loss": loss_options(self.closed_form, self.loss)})

    def check(self, data: DataSet, process: Process) -> None:
        need_images(data, self.method)
        check_rows(data)

    def rows(self, images: ImageSet) -> tuple[Rows, NDArray[np.int64]]:
        """The views that it learns from, and the image of each."""
        from benchmark.networks.kernel_maps import rows_of

        return rows_of(images, self.regime, self.seed)

    def drawn(self, inputs: int) -> WideReLU:
        """f(·; θ₀)."""
        from methods.regime.tangent import WideReLU

        seed = key(self.seed, "wide", "network")
        return WideReLU(inputs, self.mlp.width, self.mlp.depth, self.embedding_dim, seed)

    def rival(self, gram_NN: Rows, image_N: NDArray[np.int64]) -> KernelSSL:
        """The closed form of its loss for a kernel with this matrix of the training rows."""
        from methods.regime import ESTIMATORS
        from methods.regime.base import RankWarning

        estimator = ESTIMATORS[self.closed_form.removeprefix("kernel_")]
        learner = estimator(
            self.embedding_dim, base_kernel="precomputed", ridge=self.regime.ridge, center=True, **self.loss
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RankWarning)  # how many directions are left is the ridge's to say
            return learner.fit(gram_NN, groups=image_N)

    def fitted(self, data: DataSet) -> tuple[dict[str, NDArray[Any]], Cost]:
        from methods.regime import EmpiricalNTK, clique_graph

        began = time.perf_counter()
        rows_ND, image_N = self.rows(data.train)
        network = self.drawn(rows_ND.shape[1])
        gram_NN = EmpiricalNTK(network)(rows_ND)
        rival = self.rival(gram_NN, image_N)
        loss = Loss(self.closed_form, self.loss, torch.from_numpy(clique_graph(image_N).toarray()).float())
        squares = float((rival.transform(gram_NN) ** 2).sum())
        fall = Fall(network, torch.from_numpy(rows_ND).float(), loss, rival.ridge_, rival.ridge_ / self.regime.ridge)
        fall.step_off(self.descent.init_scale * squares, generator(self.seed, "wide", "start"))
        learnt = {"rows": rows_ND, "image": image_N}
        return {**learnt, **fall.down(self.descent)}, Cost(train_seconds=time.perf_counter() - began)

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenWide:
        arrays = kept(folder)
        try:
            network = self.drawn(arrays["weights.0"].shape[1])
            network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in network.state_dict()})
            track = Track(*(arrays[name] for name in ("rows", "image", "moments", "modes", "start")))
            return FrozenWide(self, network, arrays["shift"], track, self.descent.steps)
        except (KeyError, RuntimeError) as error:
            raise UserError(f"{folder / WEIGHTS_NAME}: is damaged: {error}") from error


@dataclass(frozen=True)
class Loss:
    """A loss of methods/regime/README.md, of centred z (N, d), where A relates the rows."""

    name: str
    options: dict[str, Any]
    A_NN: Tensor

    def __call__(self, z_Nd: Tensor) -> Tensor:
        eye_dd, degree_N = torch.eye(z_Nd.shape[1]), self.A_NN.sum(dim=1)
        if self.name == "kernel_spectral":
            T_NN = torch.eye(len(z_Nd)) + self.A_NN
            if self.options["target"] == "normalised":
                T_NN = T_NN / torch.outer(degree_N + 1, degree_N + 1).sqrt()
            return (z_Nd @ z_Nd.T - T_NN).square().sum()
        off = (self.modes_of(z_Nd) - eye_dd).square().sum()
        if self.name == "kernel_barlow_twins":
            return off
        return off + self.options["beta"] * (z_Nd * (degree_N[:, None] * z_Nd - self.A_NN @ z_Nd)).sum()

    def modes_of(self, z_Nd: Tensor) -> Tensor:
        """The (d, d) matrix whose eigenvalues are the modes: Γ_z of Barlow Twins, zᵀz of the others."""
        if self.name == "kernel_barlow_twins":
            return z_Nd.T @ self.A_NN @ z_Nd / self.A_NN.sum()
        return z_Nd.T @ z_Nd


class Fall:
    """Gradient descent of one network from near its θ₀: λ is ``ridge``, and ``critical`` that at which z = 0 wins."""

    def __init__(self, network: WideReLU, x_ND: Tensor, loss: Loss, ridge: float, critical: float) -> None:
        self.network, self.x_ND, self.loss, self.ridge, self.critical = network, x_ND, loss, ridge, critical
        self.weights = list(network.parameters())
        self.origin = [weight.detach().clone() for weight in self.weights]
        self.first_Nd = network(x_ND).detach()

    def moved(self) -> tuple[Tensor, Tensor]:
        """z of the training rows, and the mean that it is less."""
        z_Nd = self.network(self.x_ND) - self.first_Nd
        mean_d = z_Nd.mean(dim=0)
        return z_Nd - mean_d, mean_d

    @torch.no_grad()
    def step_off(self, squares: float, draws: torch.Generator) -> None:
        """Add normal noise to θ₀ after which Σz² is ``squares``, to first order."""
        noise = [torch.randn(weight.shape, generator=draws) for weight in self.weights]
        probe = 1e-3
        self._to(noise, probe)
        reached = float(self.moved()[0].square().sum())
        self._to(noise, probe * (squares / reached) ** 0.5)

    def _to(self, noise: list[Tensor], scale: float) -> None:
        for weight, before, step in zip(self.weights, self.origin, noise, strict=True):
            weight.copy_(before + scale * step)

    def down(self, descent: Descent) -> dict[str, NDArray[Any]]:
        """Descend; return the weights, the mean, and the modes at ``MOMENTS`` even steps on the way.

        Raises :class:`Diverged`.
        """
        rate = descent.rate / (4 * self.critical)
        moments = np.unique(np.linspace(0, descent.steps, MOMENTS + 1).round().astype(np.int64))
        start_Nd, modes = self.moved()[0].detach(), []
        for step in range(descent.steps + 1):
            z_Nd, mean_d = self.moved()
            if step in moments:
                if not torch.isfinite(z_Nd).all():
                    raise Diverged(f"the embedding was not finite at step {step}: lower descent.rate")
                modes.append(torch.linalg.eigvalsh(self.loss.modes_of(z_Nd.detach())).flip(0))
            if step < descent.steps:
                self._step(torch.autograd.grad(self.loss(z_Nd), self.weights), rate)
        own = {"shift": mean_d, "modes": torch.stack(modes), "start": start_Nd, **self.network.state_dict()}
        return {"moments": moments, **{name: value.detach().contiguous().numpy() for name, value in own.items()}}

    @torch.no_grad()
    def _step(self, gradients: tuple[Tensor, ...], rate: float) -> None:
        for weight, before, gradient in zip(self.weights, self.origin, gradients, strict=True):
            weight.sub_(rate * (gradient + 2 * self.ridge * (weight - before)))


@dataclass(frozen=True, eq=False)
class Track:
    """Of a descent its ``rows`` (N, D) with the ``image`` of each, and its way.

    ``modes`` (moments, d), decreasing, at the steps ``moments``, and the first z (N, d), ``start``.
    """

    rows: Rows
    image: NDArray[np.int64]
    moments: NDArray[np.int64]
    modes: NDArray[np.float32]
    start: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrozenWide(Frozen):
    """z(x) of a network after its descent, in float64."""

    settings: WideNetwork
    network: WideReLU
    shift: NDArray[np.float32]
    track: Track
    epochs: int
    name: str = "wide"

    @cached_property
    def origin(self) -> WideReLU:
        """f(·; θ₀)."""
        return self.settings.drawn(self.network.weights[0].shape[1])

    def check(self, data: DataSet) -> None:
        check_rows(data, self.network.weights[0].shape[1])

    def embed(self, rows_ND: Rows) -> Rows:
        """z (N, d) of rows."""
        x_ND = torch.from_numpy(rows_ND).float()
        with torch.no_grad():
            z_Nd: Rows = (self.network(x_ND) - self.origin(x_ND)).double().numpy()
        return z_Nd - self.shift

    def extract(self, images: ImageSet) -> Tensor:
        return torch.from_numpy(self.embed(plain_rows(images)))


def wide_methods_table() -> list[dict[str, str]]:
    """One row a method, as `spherebench methods` lists the others."""
    forms = {method: method.replace("wide", "kernel") for method in WIDE_METHODS}
    return [listed(method, title, forms[method], "Jacot et al. 2018") for method, title in WIDE_METHODS.items()]
