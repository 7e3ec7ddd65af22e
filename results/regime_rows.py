"""Which rows of a summary the figures of the kernel regime are of; needs no plotting library."""

import re

import pandas as pd

from results.collect import PROTOCOL

# Axes over which there is a figure of lines: the column, and what the axis is called.
OVER = {"regime.n_views": "Views of each image $m$", "data.limit": "Training images"}
NEIGHBOURS = "regime.n_neighbors"
MOST_SPECTRA = 12
FEWEST_EIGENVALUES = 8  # that make a spectrum


def few_label_rows(summary: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Few-label figures on ``dataset`` with ``shots`` and ``probe``."""
    own = summary[(summary["dataset"] == dataset) & (summary["metric"] == "fewshot_top1") & (summary["n"] > 0)]
    own = own.rename(columns={f"{PROTOCOL}labels_per_class": "shots", f"{PROTOCOL}probe": "probe"})
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


def shots_text(shots: object) -> str:
    return f"{shots} label{'s' if shots != 1 else ''} per class"
