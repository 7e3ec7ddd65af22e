"""What to expect of an augmentation, without labels: how far kernel and embedding agree on the views of an image."""

import numpy as np
from pydantic import Field

from benchmark.data.images import evenly
from benchmark.networks.kernel import FrozenKernel
from benchmark.probes.base import Figures, Found, Probe, register
from benchmark.probes.subject import Subject
from benchmark.runtime.seeds import key
from results.record import Metric, ProtocolValue

MOST_IMAGES = 500
MOST_LISTED = 64  # of eigenvalues and components


@register
class Agreement(Probe):
    """The measures of :mod:`methods.regime.expectations`, on fresh views of at most ``MOST_IMAGES`` measured images.

    The invariance also on views that the network was fitted on: what is lost from these to those is the gap. The
    alignment with the labels is the one that looks at labels.
    """

    name = "agreement"
    needs = frozenset({"views"})

    smoothing: float = Field(1e-3, ge=0, description="ρ of the RKHS norm, relative: see methods.regime.expectations")

    def figures(self) -> Figures:
        of_views = ("augmentation_complexity", "agreeing_dimensions", "trace_gap", "invariance", "invariance_gap")
        return [(name, {}) for name in (*of_views, "rkhs_norm", "label_alignment")]

    def measure(self, subject: Subject) -> Found:
        network = subject.network
        if not subject.process.is_main:
            return Found()
        assert isinstance(network, FrozenKernel)
        with subject.requests.at_once():
            return self._measured(network, subject)

    def _measured(self, network: FrozenKernel, subject: Subject) -> Found:
        from methods.regime import expectations

        measured = subject.queries_images
        images = measured.subset(evenly(len(measured), MOST_IMAGES))
        rows_ND, image_N = network.views_of(images, key("evaluation", "views"))
        features, W_dP = network.map.in_features()
        agreement = expectations.Agreement.of(features.transform(rows_ND), image_N, self.smoothing)
        z_Nd = network.map.transform(rows_ND)
        invariances = expectations.component_invariances(z_Nd, image_N)
        norms = expectations.component_norms(z_Nd, W_dP)
        rows_ND, fitted_N = network.views_of(subject.data.train, network.seed)
        some_N = np.isin(fitted_N, evenly(len(subject.data.train), MOST_IMAGES))
        fitted = expectations.component_invariances(network.map.transform(rows_ND[some_N]), fitted_N[some_N])
        gap = round(float(fitted.mean() - invariances.mean()), 9)  # of copies, rounding is no gap
        place: dict[str, ProtocolValue] = {"images": len(images), **subject.place()}
        smoothed: dict[str, ProtocolValue] = {"smoothing": self.smoothing, **place}
        alignment = expectations.label_alignment(z_Nd, images.labels[image_N])
        metrics = [
            Metric(metric="augmentation_complexity", protocol=smoothed, value=agreement.complexity, unit="dimensions"),
            Metric(metric="agreeing_dimensions", protocol=smoothed, value=agreement.trace, unit="dimensions"),
            Metric(metric="trace_gap", protocol=smoothed, value=agreement.trace_gap(W_dP), unit="dimensions"),
            Metric(metric="invariance", protocol=place, value=float(invariances.mean()), unit="correlation"),
            Metric(metric="invariance_gap", protocol=place, value=gap, unit="difference"),
            Metric(metric="rkhs_norm", protocol=place, value=float(norms.mean()), unit="squared norm"),
            Metric(metric="label_alignment", protocol=place, value=alignment, unit="correlation"),
        ]
        listed = {"eigenvalues": agreement.eigenvalues, "invariances": invariances, "rkhs_norms": norms}
        short = {name: [float(f"{value:.5g}") for value in own[:MOST_LISTED]] for name, own in listed.items()}
        return Found(metrics, short)
