"""Clustering of frozen features without labels, and how far the clusters are the classes. Nothing is trained."""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmark.data import DataSet
from benchmark.probes.base import Figures, Found, Probe, Split, register
from benchmark.probes.subject import Subject
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import one_thread
from benchmark.runtime.seeds import key
from results.record import Metric, ProtocolValue

# scikit-learn's own, kept here so that a new version of it changes no figure.
_MAX_ITERATIONS, _TOLERANCE = 300, 1e-4


@register
class Clustering(Probe):
    """k-means on the images that are measured: NMI and ARI of its clusters C and the classes Y.

    k-means minimises the inertia  Σ_i min_c ‖x_i − μ_c‖²; of ``cluster_n_init`` draws of the centres it begins with
    (k-means++, Arthur & Vassilvitskii, SODA 2007), the one that ends with the least inertia counts, the first of equal
    ones. Labels choose nothing. It is Lloyd's, on all images: scikit-learn's KMeans, not its MiniBatchKMeans.

        NMI = 2 I(Y; C) / (H(Y) + H(C)),        ARI = (RI − E RI) / (max RI − E RI),

    normalised by the arithmetic mean of the entropies (Vinh, Epps & Bailey, JMLR 2010), and with the Rand index RI
    less what it is by chance (Hubert & Arabie, 1985). Both are 1 where clusters are classes; chance gives an ARI of 0
    on average, and so maybe less, and an NMI above 0 that grows with the number of clusters.

    ``cosine``: rows are divided by their norms, after which ‖u − v‖² = 2 − 2 cos(u, v); ``euclidean``: as they are.
    """

    name = "clustering"

    cluster_k: int | None = Field(None, ge=2, description="clusters; by default as many as there are classes")
    cluster_n_init: int = Field(10, ge=1, description="draws of the first centres, of which the best counts")
    cluster_seed: int = Field(0, ge=0, description="of these draws; the same for every network")
    cluster_distance: Literal["cosine", "euclidean"] = "cosine"

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where there are more clusters than images."""
        self._clusters(len(data.test if split == "test" else data.tune), data.classes)

    def figures(self) -> Figures:
        own: dict[str, ProtocolValue] = {"features": "embedding"} if "embedding" in self.needs else {}
        return [("clustering_nmi", own), ("clustering_ari", own)]

    def measure(self, subject: Subject) -> Found:
        queries, on_embedding = subject.queries(), "embedding" in self.needs
        clusters = self._clusters(len(queries), subject.data.classes)
        if on_embedding:
            with subject.frozen():
                queries = subject.embedded(queries)
        x_ND = queries.x.cpu().numpy()
        if self.cluster_distance == "cosine":
            x_ND = x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)
        labels_N = queries.labels.cpu().numpy()

        def draw(number: int) -> tuple[float, float, float]:
            with subject.requests.at_once():
                return clustered(x_ND, labels_N, clusters, key("clustering", self.cluster_seed, number))

        found = subject.dealt("draws", self.cluster_n_init, draw)
        if not subject.process.is_main:
            return Found()
        _, nmi, ari = min(found, key=lambda figures: figures[0])
        protocol = {
            "clusters": clusters,
            "n_init": self.cluster_n_init,
            "seed": self.cluster_seed,
            "distance": self.cluster_distance,
            **subject.place("embedding" if on_embedding else None),
        }
        values = {"clustering_nmi": nmi, "clustering_ari": ari}
        return Found([Metric(metric=name, protocol=protocol, value=value) for name, value in values.items()])

    def _clusters(self, images: int, classes: int) -> int:
        clusters = self.cluster_k or classes
        if clusters > images:
            of_classes = "" if self.cluster_k else " (as many as there are classes)"
            raise UserError(f"evaluation.cluster_k: is {clusters}{of_classes}, must be at most the {images} images")
        return clusters


@register
class ClusteringEmbedding(Clustering):
    """The same on what the loss saw, through the projector."""

    name = "clustering_embedding"
    needs = frozenset({"embedding"})


def clustered(x_ND: NDArray[Any], labels_N: NDArray[np.int64], clusters: int, seed: int) -> tuple[float, float, float]:
    """Inertia, NMI and ARI of k-means from one draw of its first centres, on one thread.

    Several threads add up centres in the order in which they end, which rounds otherwise every time, and wait for each
    other: 5,000 x 64 features into 20 clusters took two threads of a busy machine 17 times as long.
    """
    # Here, since importing scikit-learn takes seconds that a job which is preempted in training would waste.
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    model = KMeans(
        clusters, n_init=1, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE, random_state=seed % 2**32, algorithm="lloyd"
    )
    with one_thread(), warnings.catch_warnings():
        # Of fewer distinct points than clusters, and of many classes of few images: both are measured.
        warnings.simplefilter("ignore", UserWarning)
        found_N = model.fit_predict(x_ND)
        nmi, ari = normalized_mutual_info_score(labels_N, found_N), adjusted_rand_score(labels_N, found_N)
    # Of clusters that are the classes rounding leaves 1 + 2e-16.
    return float(model.inertia_), min(1.0, float(nmi)), float(ari)
