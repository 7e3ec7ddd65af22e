"""The figure of paired differences: what the table says, a row a method and a panel a dimension."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from matplotlib.axes import Axes

from benchmark.cli import main
from results import difference_plots, style
from results.collect import collect
from results.paired import against
from results.record import Metric
from results.summary import headline, summarise

Make = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def runs(make_record: Make, write_runs: Write) -> Path:
    """SimCLR is five points above VICReg by every seed, Barlow Twins now above, now below, pixels are far below."""
    own = {
        "vicreg": lambda seed: 0.5 + 0.001 * seed,
        "simclr": lambda seed: 0.55 + 0.0011 * seed,
        "barlow_twins": lambda seed: 0.5 + 0.02 * (-1) ** seed,
    }

    def metric(value: float) -> list[Metric]:
        return [Metric(metric="knn_top1", protocol={"k": 20}, value=value)]

    records = [
        make_record(name, dim, seed=seed, title=name, metrics=metric(value(seed)))
        for name, value in own.items()
        for dim in (64, 256)
        for seed in range(4)
        if (name, dim, seed) != ("barlow_twins", 256, 0)
    ]
    records += [make_record("barlow_twins", 256, seed=0, title="barlow_twins", status="diverged", metrics=[])]
    pixels = make_record("raw_pixels", None, title="Raw pixels", kind="pixels", metrics=metric(0.1))
    return write_runs([*records, pixels])


def marks(axis: Axes) -> dict[float, tuple[float, bool]]:
    """By row: the mean difference, and whether its mark is filled."""
    lines = [container.lines[0] for container in axis.containers]
    return {
        float(line.get_ydata()[0]): (float(line.get_xdata()[0]), line.get_markerfacecolor() != "white")
        for line in lines
    }


def test_marks_stand_at_the_differences_of_the_table_and_are_filled_where_a_test_tells(runs: Path) -> None:
    style.use_style()
    (table,) = against(headline(summarise(collect([runs]))), "vicreg")
    figure = difference_plots.draw(table.found)
    assert [axis.get_title() for axis in figure.axes] == ["$D=64$", "$D=256$"]
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["Raw pixels", "simclr", "barlow_twins"]
    for axis in (first, second):
        found = marks(axis)
        assert found[1.0] == (pytest.approx(5.015, abs=1e-6), True)
        assert found[2.0][1] is False
        assert {text.get_text() for text in axis.texts} == {"← −40.0"}
    told = {(item.row["label"], item.base["embedding_dim"]): item.paired for item in table.found}
    assert marks(second)[2.0][0] == pytest.approx(100 * told["barlow_twins", 256].difference)  # type: ignore[union-attr]
    assert "filled: differs from zero at the 5 % level; open: not significant" in figure.get_supxlabel()


def test_a_pair_without_a_seed_in_common_says_what_became_of_it(make_record: Make, write_runs: Write) -> None:
    made = [make_record("vicreg"), make_record("vicreg", seed=1)]
    lost = [make_record("simclr", status="diverged", metrics=[])]
    (table,) = against(headline(summarise(collect([write_runs([*made, *lost, make_record("auh")])]))), "vicreg")
    figure = difference_plots.draw(table.found)
    assert "diverged 1/1" in {text.get_text() for text in figure.axes[0].texts}
    assert figure.get_supxlabel().endswith("one seed: no test")


def test_plots_against_writes_that_figure_alone(runs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plots", str(runs), "--against", "VICReg", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"against_VICReg.png", "against_VICReg.pdf"}
    failed = CliRunner().invoke(main, ["plots", str(runs), "--against", "nobody"])
    assert (failed.exit_code, "no method 'nobody' in these tables: there are" in failed.output) == (2, True)
