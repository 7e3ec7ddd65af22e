"""What the figures of the kernel regime are of, on the page too; needs no plotting library."""

import re
from typing import Any

import pandas as pd

from results.collect import PROTOCOL, Collection
from results.summary import natural, of_metric

# Axes over which there is a figure of lines: the column, and what the axis is called.
OVER = {"regime.n_views": "Views of each image $m$", "data.limit": "Training images"}
NEIGHBOURS = "regime.n_neighbors"
_MOST_SPECTRA = 12
_FEWEST_EIGENVALUES = 8  # that make a spectrum


def few_label_rows(summary: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Few-label figures on ``dataset`` with ``shots`` and ``probe``."""
    shots, probe = f"{PROTOCOL}labels_per_class", f"{PROTOCOL}probe"
    own = of_metric(summary, dataset, "fewshot_top1").rename(columns={shots: "shots", probe: "probe"})
    return own.sort_values("shots", kind="stable") if len(own) else own


def less_axes(labels: pd.Series) -> pd.Series:
    """Rows' names without the axes of ``OVER``."""
    axes = "|".join(re.escape(column.rsplit(".", 1)[-1]) for column in OVER)
    return labels.str.replace(rf", (?:{axes})=[^,]*", "", regex=True)


def largest(rows: pd.DataFrame, but: str | None = None) -> pd.DataFrame:
    """Of each ``name``, the label less the axes of ``OVER``, the rows with the most along each of these but one."""
    rows = rows.assign(name=less_axes(rows["label"]))
    for column in OVER:
        if column in rows and column != but:
            values = rows[column].astype(float).fillna(0)
            rows = rows[values == values.groupby(rows["name"]).transform("max")]
    return rows


def several_ranks(rows: pd.DataFrame) -> bool:
    return bool((rows.groupby("name")["embedding_dim"].nunique() > 1).any())


def spectra(collection: Collection, rows: pd.DataFrame) -> dict[str, list[float]]:
    """Shares of the representation's variance by eigenvalue, of the first seed of each ``name`` of :func:`largest`.

    Too many are none, and so is one alone.
    """
    details = collection.details("spectrum")
    runs = collection.runs[collection.runs["id"].isin(details.keys())]
    names = rows.drop_duplicates("configuration")[["configuration", "name"]]
    own = runs.sort_values("seed").drop_duplicates("configuration").merge(names)
    shares = {}
    for network, name in own.sort_values("name", key=natural)[["id", "name"]].to_numpy():
        # What is zero to rounding has no place on a logarithmic axis.
        found = [float(share) for share in details[network].get("eigenvalues", ()) if float(share) > 1e-12]
        if len(found) >= _FEWEST_EIGENVALUES:
            shares[name] = found
    return shares if 1 < len(shares) <= _MOST_SPECTRA and not several_ranks(rows) else {}


def pictures(collection: Collection, runs: pd.DataFrame) -> dict[str, dict[int, dict[str, Any]]]:
    """By title and number of neighbours, the pictures of each method that was run with several; images have none."""
    details = {name: picture for name, picture in collection.details("kernel_picture").items() if picture}
    if NEIGHBOURS not in runs:
        return {}
    own = runs[runs["id"].isin(details.keys()) & runs[NEIGHBOURS].notna()].sort_values([NEIGHBOURS, "seed"])
    groups = own.drop_duplicates(["title", NEIGHBOURS]).groupby("title", sort=True)
    return {
        str(title): {int(count): details[name] for name, count in rows[["id", NEIGHBOURS]].to_numpy()}
        for title, rows in groups
        if len(rows) > 1
    }


def shots_text(shots: object) -> str:
    return f"{shots} label{'s' if shots != 1 else ''} per class"
