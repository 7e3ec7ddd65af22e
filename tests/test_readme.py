"""The README keeps its word: its snippet runs, and its table is the committed records'."""

from __future__ import annotations

import csv
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


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_the_table_is_made_from_the_committed_records(page: str) -> None:
    from results.collect import collect
    from results.tables import render

    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.search(r"<!-- table: (\S+) (\S+) -->\n(.*?)<!-- end -->", text, flags=re.DOTALL)
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
    assert len(named) == 16
    assert [name for name in named if f"def {name}(" not in facts] == []
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / target).exists(), target


@pytest.mark.parametrize(
    ("page", "heading", "suite", "count"),
    [
        ("README.md", "## The kernel regime", "regime_digits", 6),
        ("methods/regime/README.md", "## Infinite width", "regime_digits", 4),
        ("methods/regime/README.md", "## On MNIST", "regime_mnist", 12),
        ("methods/regime/README.md", "## Where the best representation is known", "regime_chain", 10),
        ("methods/regime/README.md", "## What to expect of an augmentation", "regime_augmentations", 5),
    ],
)
def test_the_kernel_regimes_figures_are_the_committed_records(page: str, heading: str, suite: str, count: int) -> None:
    section = (ROOT / page).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    table = (ROOT / "results" / "reference" / suite / "tables" / "accuracy.md").read_text(encoding="utf-8")
    figures = re.findall(r"(\d\d\.\d ± \d+\.\d)\s%", section)
    assert len(figures) == count
    assert [figure for figure in figures if figure not in table] == []


@pytest.mark.parametrize(
    ("heading", "suite", "labels", "pairs"),
    [
        (
            "## Infinite width",
            "regime_digits",
            (1, 5),
            [
                (f"Kernel {loss}, NTK", f"Kernel {loss}, n_views=16")
                for loss in ("spectral contrastive", "VICReg", "Barlow Twins")
            ],
        ),
        (
            "## On MNIST",
            "regime_mnist",
            (1,),
            [
                (f"{row}, NTK, limit=2000", f"{row}, limit=2000{more}")
                for row, more in (("Kernel spectral contrastive", ", augmentation=mixed"), ("Base kernel", ""))
            ],
        ),
    ],
)
def test_what_is_said_of_the_infinite_network_is_what_the_paired_tests_find(
    heading: str, suite: str, labels: tuple[int, ...], pairs: list[tuple[str, str]]
) -> None:
    from results.collect import collect
    from results.paired import against
    from results.summary import summarise

    page = (ROOT / "methods" / "regime" / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"(\d+\.\d ± \d\.\d)(?!\s%)", page.partition(heading)[2].partition("\n## ")[0])
    rows = summarise(collect([ROOT / "results" / "reference" / suite]))
    found = []
    for count in labels:
        one = rows[rows["protocol"].str.contains(f"labels_per_class={count},.*svm")]
        for ntk, rbf in pairs:
            (table,) = against(one, ntk)
            (paired,) = [each.paired for each in table.found if each.row.label == rbf]
            found.append(f"{100 * paired.difference:.1f} ± {50 * (paired.high - paired.low):.1f}")
    assert said == found


def test_what_is_said_of_digits_is_what_the_paired_tests_find() -> None:
    from results.collect import collect
    from results.paired import against
    from results.summary import summarise

    (said,) = re.findall(r"<!-- end -->\n(.*?)\n## ", README, flags=re.DOTALL)
    ends = [tuple(map(int, pair)) for pair in re.findall(r"by (\d+) to (\d+)", said)]
    rows = summarise(collect([ROOT / "results" / "reference" / "digits"]))
    one_label = rows[rows["protocol"].str.contains("labels_per_class=1,") & rows["protocol"].str.contains("backbone")]
    found = {}
    for base in ("sfrik_l2", "sfrik_l3"):
        (table,) = against(one_label, base)
        found |= {(base, each.row.method, each.row.embedding_dim): each.paired for each in table.found}
    for method, (least, most) in zip(("auh", "barlow_twins"), ends, strict=True):
        own = [paired for (_, other, _), paired in found.items() if other == method]
        assert {round(-100 * paired.difference) for paired in own} >= {least, most}
        assert all(least - 0.5 <= -100 * paired.difference < most + 0.5 and paired.p_holm < 0.05 for paired in own)
    for base, other, dim in found:
        if other in ("sfrik_l2", "sfrik_l3") or (other == "vicreg" and dim < 1024):
            assert found[base, other, dim].p_holm > 0.05


def test_what_is_said_of_photographs_is_what_the_paired_tests_find() -> None:
    from results.collect import collect
    from results.paired import against
    from results.summary import summarise

    (said,) = re.findall(r"<!-- end -->\n(.*?)\nOn digits", README, flags=re.DOTALL)
    rows = summarise(collect([ROOT / "results" / "reference" / "cifar10_small"]))
    (table,) = against(rows[rows["metric"] == "linear_top1"], "sfrik_l3")
    lost: dict[str, list[str]] = {}
    for each in table.found:
        if each.paired.p_holm < 0.05:
            lost.setdefault(each.row.method, []).append(f"{-100 * each.paired.difference:.1f}")
    assert lost.keys() == {"barlow_twins", "sfrik_l1", "sfrik_l2", "vicreg", "untrained"}
    said = " ".join(said.split())
    assert "VICReg loses {} and {} points at D = 64 and 256, then {} and {},".format(*lost["vicreg"]) in said
    *below, at_4096 = lost["barlow_twins"]
    assert f"Barlow Twins {min(below)} to {max(below)}, then {at_4096} at D = 4096" in said
    (of_l2,), of_l1 = lost["sfrik_l2"], lost["sfrik_l1"]
    assert f"SFRIK with L = 1 {min(of_l1)} to {max(of_l1)}, with L = 2 {of_l2} at D = 4096" in said


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
    told = {"README.md": "Nothing has run on a CUDA device", "slurm/README.md": "It was run on no GPU\nyet"}
    assert {name: sentence in pages[name] for name, sentence in told.items()} == dict.fromkeys(told, not on_gpus)


def test_what_is_said_of_augmentations_stands_in_the_committed_tables() -> None:
    text = (ROOT / "methods" / "regime" / "README.md").read_text(encoding="utf-8")
    section = " ".join(text.partition("## What to expect of an augmentation")[2].partition("\n## ")[0].split())
    tables = ROOT / "results" / "reference" / "regime_augmentations" / "tables"
    correlations = re.findall(r"-0\.\d\d \(\S+ to \S+\d\)", section)
    assert len(correlations) == 6
    shown = (tables / "expectations.md").read_text(encoding="utf-8")
    assert [correlation for correlation in correlations if correlation not in shown] == []
    with (tables / "accuracy.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "kernel_spectral"]
    measured = {(row["metric"], row["regime.augmentation"], row["regime.n_views"]): float(row["mean"]) for row in rows}
    for augmentation, told in (("mixed", "94"), ("none", "378")):
        assert f"κ² = {told}" in section
        assert f"{measured['augmentation_complexity', augmentation, '8']:.0f}" == told
    gaps = [f"{measured['invariance_gap', 'mixed', views]:.3f}" for views in ("2", "4", "16")]
    assert "by {}, {} and {}.".format(*gaps) in section
