"""Transfer in one table: a row a network and number of labels, a column a data set, by that set's own measure."""

import pandas as pd

from results.collect import PROTOCOL, protocol_text, short_source
from results.formats import NOT_RUN, Table
from results.readable import outcome, seeds_and_draws, usual_seeds
from results.summary import TRANSFER, protocol_columns

# Of a data set whose accuracy is not top-1.
_MEASURES = {"transfer_mean_per_class": ", mean per class", "multilabel_map": ", mAP"}
# What rows, columns and notes tell of a protocol beside the title.
_TOLD = ("shots", "draws", "tested_on", "resized", "features", "epoch")


def transfer(summary: pd.DataFrame) -> list[Table]:
    """The table of a summary; none where nothing was measured so."""
    chosen = summary[summary["metric"].isin(TRANSFER)]
    if chosen.empty:
        return []
    told = {name: chosen.get(PROTOCOL + name, pd.Series(None, chosen.index, dtype=object)) for name in _TOLD}
    n = usual_seeds(chosen)
    several = chosen.loc[chosen["kind"] == "trained", "made_of"].nunique() > 1
    chosen = chosen.assign(
        shots=told["shots"].fillna("all").astype(str),
        heading=[_heading(*row) for row in zip(chosen["dataset"], told["tested_on"], chosen["metric"], strict=True)],
        cell=[outcome(row, n) for _, row in chosen.iterrows()],
        dim=["" if pd.isna(dim) else str(dim) for dim in chosen["embedding_dim"]],
        method=[
            label + (f", trained on {short_source(made_of)}" if several and kind == "trained" else "")
            for label, made_of, kind in chosen[["own_label", "made_of", "kind"]].to_numpy()
        ],
    )
    abroad = told["tested_on"].notna()
    headings, rows = dict.fromkeys([*chosen["heading"][~abroad], *chosen["heading"][abroad]], NOT_RUN), []
    for shots in sorted(set(chosen["shots"]), key=lambda few: (few == "all", few.zfill(9))):
        for (method, dim), own in chosen[chosen["shots"] == shots].groupby(["method", "dim"], sort=False):
            found = own.groupby("heading")["cell"].agg("; ".join).to_dict()
            rows.append({"Labels per class": shots, "Method": method, "D": dim, **headings, **found})
    return [Table("Transfer of frozen features (%)", rows, _notes(chosen, told["resized"]))]


def _heading(source: str, tested_on: str | None, metric: str) -> str:
    to = "" if pd.isna(tested_on) else f" to {tested_on}"
    return f"{short_source(source)}{to}{_MEASURES.get(metric, '')}"


def _notes(chosen: pd.DataFrame, resized: pd.Series) -> list[str]:
    note, of_draws = seeds_and_draws(chosen)
    names = [name for name in protocol_columns(chosen) if name.removeprefix(PROTOCOL) not in _TOLD]
    protocols = dict.fromkeys(
        protocol_text({name.removeprefix(PROTOCOL): row[name] for name in names if pd.notna(row[name])})
        for _, row in chosen[names].iterrows()
    )
    notes = [
        f"Top-1 accuracy where no other measure is given; {'; or '.join(protocols)}.",
        f"{note}. {NOT_RUN}: not run.",
        *of_draws,
    ]
    if any(" to " in heading for heading in chosen["heading"]):
        notes.append("A to B: learnt on A, tested on B.")
    before: dict[tuple[str, str], list[str]] = {}  # by the sides and the networks, the data sets
    made = chosen.assign(resized=resized)[resized.notna()]
    for sides, heading in dict.fromkeys(zip(made["resized"], made["heading"], strict=True)):
        methods = made.loc[(made["resized"] == sides) & (made["heading"] == heading), "method"]
        before.setdefault((sides, ", ".join(dict.fromkeys(methods))), []).append(heading)
    for (sides, methods), found in before.items():
        notes.append(f"Resized from {sides} pixels a side: {', '.join(found)}, before {methods}.")
    return notes
