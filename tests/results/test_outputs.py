import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import plots
from results.collect import collect
from results.outputs import is_current, write
from results.runs import LeftOut, read_runs


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
        "report.html",
    ]
    with (folder / "tables" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tidy = collect([digits]).tidy()
    assert len(rows) == len(tidy)
    assert [float(row["value"]) for row in rows if row["value"]] == tidy["value"].dropna().to_list()


def test_report_of_failures_only_says_so(make_record: Callable[..., Any], write_runs: Callable[..., Path]) -> None:
    folder = write_runs([make_record(status="diverged")])
    names = {path.name for path in write(folder)}
    assert "accuracy.md" in names
    assert "diverged at step 12" in (folder / "tables" / "accuracy.md").read_text()


def test_report_goes_on_past_a_damaged_record(make_record: Callable[..., Any], write_runs: Callable[..., Path]) -> None:
    folder = write_runs([make_record(kind="random_init"), make_record(seed=1)])  # of the first there is nothing to draw
    (folder / make_record(seed=1).id / "network.json").write_text("{")
    with pytest.warns(LeftOut, match="damaged record"):
        paths = write(folder)
    assert "SFRIK L=2" in paths[0].read_text()


def test_report_is_current_while_all_of_it_is_there_and_no_record_is_newer(
    make_record: Callable[..., Any], write_runs: Callable[..., Path]
) -> None:
    record = make_record()
    folder = write_runs([record])
    assert not is_current(folder)
    paths = write(folder)
    assert is_current(folder)
    content = paths[-1].read_bytes()
    paths[-1].unlink()
    assert not is_current(folder), "a figure is missing"
    paths[-1].write_bytes(content)
    assert is_current(folder)
    (measured,) = (folder / record.id / "measurements").glob("knn-*.json")
    measured.write_bytes(measured.read_bytes())
    assert not is_current(folder), "something was measured since"


@pytest.mark.parametrize("suite", ["digits", "regime_digits", "regime_ridge_rank", "regime_spirals"])
@pytest.mark.parametrize("status", ["interrupted", "done"])
def test_a_network_that_nothing_was_measured_on_yet_is_reported_without_a_fall(
    suite: str, status: str, tmp_path: Path
) -> None:
    reference = Path(__file__).parents[2] / "results" / "reference" / suite
    record = read_runs([reference])[0].network.model_copy(update={"status": status})
    record.write(tmp_path / record.id / "network.json")
    assert tmp_path / "tables" / "runs.csv" in write(tmp_path)


def test_killed_while_it_writes_a_report_is_not_current(
    make_record: Callable[..., Any], write_runs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_runs([make_record(status="diverged")])  # of which there are tables, and no figure
    write(folder)
    assert is_current(folder)
    make_record().write(folder / make_record().id)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plots, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            write(folder)
    assert not is_current(folder), "the tables are there, the figures are not"
    write(folder)
    assert is_current(folder)


def test_a_figure_that_fails_is_a_warning_and_is_tried_again(
    make_record: Callable[..., Any], write_runs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_runs([make_record()])
    paths = write(folder)
    kinds = ("png", "pdf")
    with monkeypatch.context() as patch:
        patch.setitem(plots._FIGURES, "accuracy", lambda *_: 1 / 0)
        with pytest.warns(UserWarning, match=r"figure .*plots/accuracy was not drawn: ZeroDivisionError"):
            assert write(folder) == paths
    assert not any((folder / "plots" / f"accuracy.{kind}").exists() for kind in kinds), (
        "an older one is no figure of it"
    )
    assert all((folder / "plots" / f"tradeoff.{kind}").exists() for kind in kinds)
    assert not is_current(folder)
    write(folder)
    assert is_current(folder)
