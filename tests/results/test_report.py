import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from results.collect import LeftOut, collect
from results.record import Cost, Record
from results.report import write


def test_report_writes_tables_and_plots_into_the_runs_folder(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    paths = write(folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "tables/accuracy.md",
        "tables/accuracy.tex",
        "tables/cost.md",
        "tables/cost.tex",
        "tables/accuracy.csv",
        "tables/cost.csv",
        "tables/runs.csv",
        *(f"plots/{name}.{kind}" for name in ("accuracy", "tradeoff", "loss_curves") for kind in ("png", "pdf")),
    ]
    with (folder / "tables" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tidy = collect([digits]).tidy()
    assert len(rows) == len(tidy)
    assert [float(row["value"]) for row in rows if row["value"]] == tidy["value"].dropna().to_list()


def test_report_of_failures_only_says_so(make_record: Callable[..., Record], write_runs: Callable[..., Path]) -> None:
    folder = write_runs([make_record(status="diverged")])
    names = {path.name for path in write(folder)}
    assert "accuracy.md" in names
    assert "diverged at step 12" in (folder / "tables" / "accuracy.md").read_text()


def test_report_goes_on_past_a_damaged_record(
    make_record: Callable[..., Record], write_runs: Callable[..., Path]
) -> None:
    untrained = {"run": {"epochs": 0}, "cost": Cost()}  # nothing to draw
    folder = write_runs([make_record(**untrained), make_record(seed=1)])
    (folder / make_record(seed=1).id / "record.json").write_text("{")
    with pytest.warns(LeftOut, match="damaged record"):
        paths = write(folder)
    assert "SFRIK L=2" in paths[0].read_text()
