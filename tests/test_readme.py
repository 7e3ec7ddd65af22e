"""The README keeps its word: its snippet runs, and its table is the committed records'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_snippet_is_ten_lines_and_trains() -> None:
    (snippet,) = (block for block in _blocks("python") if "from methods import" in block)
    assert len([line for line in snippet.splitlines() if line.strip()]) == 10
    names: dict = {}
    exec(snippet, names)
    assert names["loss"].value.item() < names["first"].value.item()


def test_the_kernel_regime_in_six_lines() -> None:
    (snippet,) = (block for block in _blocks("python") if "from methods.regime import" in block)
    names: dict = {}
    exec(snippet, names)
    assert names["z"].shape == (300, 16)


def test_the_table_is_made_from_the_committed_records() -> None:
    from results.collect import collect
    from results.tables import render

    shown = re.search(r"<!-- table: (\S+) (\S+) -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)
    assert shown is not None
    folder, metric, table = shown.groups()
    accuracy = render(collect([ROOT / folder]), "md", metric)
    assert table.strip() in accuracy


def test_every_file_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_search_of_the_kernel_regime_beats_chance_by_far() -> None:
    text = (ROOT / "methods" / "regime" / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert set(names["search"].best_params_) == set(names["candidates"])
    assert names["search"].best_score_ > 0.7


def test_the_kernel_regimes_facts_name_tests_and_files_that_are_there() -> None:
    folder = ROOT / "methods" / "regime"
    text = (folder / "README.md").read_text(encoding="utf-8")
    tests = [
        *(ROOT / "tests" / "methods" / "regime").glob("test_*.py"),
        *(ROOT / "tests" / "benchmark").rglob("test_*.py"),
    ]
    facts = "".join(path.read_text(encoding="utf-8") for path in tests)
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) == 12
    assert [name for name in named if f"def {name}(" not in facts] == []
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / target).exists(), target


@pytest.mark.parametrize(
    ("page", "heading", "suite", "count"),
    [
        ("README.md", "## The kernel regime", "regime_digits", 6),
        ("methods/regime/README.md", "## Infinite width", "regime_digits", 4),
        ("methods/regime/README.md", "## On MNIST", "regime_mnist", 10),
    ],
)
def test_the_kernel_regimes_figures_are_the_committed_records(page: str, heading: str, suite: str, count: int) -> None:
    section = (ROOT / page).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    table = (ROOT / "results" / "reference" / suite / "tables" / "accuracy.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d\d\.\d ± \d\.\d", section)
    assert len(figures) == count
    assert [figure for figure in figures if figure not in table] == []


def test_what_is_said_of_ridge_and_time_is_in_the_committed_table() -> None:
    page = (ROOT / "methods" / "regime" / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"`uv run spherebench run regime_ridge_time`(.*?)!\[", page, flags=re.DOTALL)
    table = (ROOT / "results" / "reference" / "regime_ridge_time" / "tables" / "accuracy.md").read_text(
        encoding="utf-8"
    )
    figures = re.findall(r"\d\d\.\d", said)
    assert len(figures) == 6
    assert [figure for figure in figures if f" {figure}" not in table] == []


def test_the_exponents_of_the_width_are_those_of_the_committed_records() -> None:
    from results.collect import collect
    from results.regime_width import exponents
    from results.summary import summarise

    page = (ROOT / "methods" / "regime" / "README.md").read_text(encoding="utf-8")
    ends = re.findall(r"−(0\.\d\d) to\s−(0\.\d\d)", page)
    found = exponents(summarise(collect([ROOT / "results" / "reference" / "regime_width"])), "digits")
    for (low, high), kernel in zip(ends, ("own", "infinite"), strict=True):
        own = sorted(f"{-exponent:.2f}" for (_, which, _), exponent in found.items() if which == kernel)
        assert [low, high] == [own[-1], own[0]]


def test_the_table_of_the_first_hour_is_the_committed_report() -> None:
    from results.formats import format_table
    from slurm.first_hour import Report

    page = (ROOT / "slurm" / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- doctor: (\S+) -->\n(.*?)\n<!-- end -->", page, flags=re.DOTALL)
    assert shown is not None
    report = Report.read(ROOT / shown[1])
    assert report.fine
    assert shown[2].strip() == format_table(report.rows(), "md").strip()


def test_no_page_tells_of_a_gpu_that_nothing_was_run_on() -> None:
    """What is not yet run is said to be; once a report of a GPU is committed, the pages must say otherwise."""
    from slurm.first_hour import Report

    reports = [Report.read(path) for path in (ROOT / "results" / "reference").glob("doctor-*/doctor.json")]
    on_gpus = [report for report in reports if "driver" in report.provenance.versions]
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "slurm/README.md")}
    told = {"README.md": "No line of this has run on a CUDA device", "slurm/README.md": "It was run on no GPU\nyet"}
    assert {name: sentence in pages[name] for name, sentence in told.items()} == dict.fromkeys(told, not on_gpus)
