"""How much of the ground truth a representation has found, where views have one (:mod:`methods.regime.chains`)."""

import numpy as np
from pydantic import Field

from benchmark.data import ImageSet
from benchmark.networks.kernel import FrozenKernel, plain_rows
from benchmark.probes.base import Figures, Found, Probe, register
from benchmark.probes.subject import Subject
from benchmark.runtime.seeds import key
from results.record import Metric, ProtocolValue


@register
class Recovery(Probe):
    """cos² of the principal angles between z and the eigenfunctions of the views' positive-pair kernel that come first.

    On fresh views of the images that are measured, and on the views that the network was fitted on: what is lost from
    these to those is the gap. The test images are the population, of which the chain is.
    """

    name = "recovery"
    needs = frozenset({"chain"})

    eigenfunctions: int = Field(6, ge=1, description="the constant left out; a number that cuts no ties")

    def figures(self) -> Figures:
        both: Figures = [("recovery", {"views": views}) for views in ("fresh", "fitted")]
        return [*both, ("recovery_gap", {}), ("recovery_worst", {})]

    def measure(self, subject: Subject) -> Found:
        network = subject.network
        if not subject.process.is_main:
            return Found()
        assert isinstance(network, FrozenKernel)
        with subject.requests.at_once():
            eigenvalues, fresh = self._found(network, subject, subject.queries_images, key("evaluation", "views"))
            _, fitted = self._found(network, subject, subject.data.train, network.seed)
        place: dict[str, ProtocolValue] = {"eigenfunctions": self.eigenfunctions, **subject.place()}
        metrics = [
            Metric(metric="recovery", protocol={"views": views, **place}, value=float(cosines.mean()))
            for views, cosines in (("fresh", fresh), ("fitted", fitted))
        ]
        gap = float(fitted.mean() - fresh.mean())
        metrics.append(Metric(metric="recovery_gap", protocol=place, value=gap, unit="difference"))
        metrics.append(Metric(metric="recovery_worst", protocol={"views": "fresh", **place}, value=float(fresh.min())))
        listed = {"eigenvalues": eigenvalues, "fresh": fresh, "fitted": fitted}
        return Found(metrics, {name: values.round(6).tolist() for name, values in listed.items()})

    def _found(
        self, network: FrozenKernel, subject: Subject, images: ImageSet, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues, and cos² on views of images."""
        from benchmark.networks.kernel_maps import chain_of
        from methods.regime import recovery

        assert network.noise is not None
        rows_ND, _ = network.views_of(images, seed)
        chain = chain_of(plain_rows(subject.data.test), network.noise)
        eigenvalues, f_Nk = chain.eigenfunctions(rows_ND, self.eigenfunctions)
        return eigenvalues, recovery(network.map.transform(rows_ND), f_Nk)
