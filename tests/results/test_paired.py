import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from results.collect import collect
from results.inference import crossed_mean
from results.record import Metric
from results.summary import half_width, summarise
from results.tables import accuracy, render

Make = Callable[..., Any]
Write = Callable[..., Path]
Collect = Callable[..., Any]


@pytest.fixture
def collected(make_record: Make, write_runs: Write) -> Collect:
    """A collection of networks (method, dimension, its values by seed), measured by logistic regression."""

    def build(*methods: tuple[str, int | None, Sequence[float]]) -> Any:
        def measured(value: float) -> list[Metric]:
            return [Metric(metric="logistic_top1", protocol={"C": 1.0, "split": "test"}, value=value)]

        networks = [(name, dim, *own) for name, dim, values in methods for own in enumerate(values)]
        records = [make_record(name, dim, seed, metrics=measured(value)) for name, dim, seed, value in networks]
        return collect([write_runs(records)])

    return build


def _rows(collection: Any, method: str) -> list[dict[str, Any]]:
    return list(json.loads(render(collection, "json", method=method)))


def test_differences_are_paired_by_seed_within_a_dimension(collected: Collect) -> None:
    base, own, wide = [0.90, 0.92, 0.95], [0.91, 0.94, 0.96], [0.80, 0.81, 0.80]
    collection = collected(("auh", 64, base), ("vicreg", 64, own), ("vicreg", 256, wide), ("auh", 256, base[:2]))
    narrow, broad = _rows(collection, "auh")
    expected = stats.ttest_rel(own, base)
    assert (narrow["method"], narrow["embedding_dim"], narrow["against"], narrow["n"]) == ("vicreg", 64, "AUH", 3)
    assert narrow["difference"] == pytest.approx(0.04 / 3)
    assert [narrow["low"], narrow["high"]] == pytest.approx(list(expected.confidence_interval()))
    assert (narrow["p"], narrow["test"]) == (pytest.approx(expected.pvalue), "paired t")
    assert (broad["embedding_dim"], broad["n"]) == (256, 2)
    assert narrow["p_holm"] == pytest.approx(2 * min(narrow["p"], broad["p"]))


def test_ten_seeds_are_tested_by_all_their_signs(collected: Collect) -> None:
    noise = np.random.default_rng(0).normal(0.9, 0.01, size=(2, 10))
    (row,) = _rows(collected(("auh", 64, noise[0]), ("vicreg", 64, noise[1])), "auh")
    permuted = stats.permutation_test((noise[1] - noise[0],), np.mean, permutation_type="samples")
    assert (row["p"], row["test"]) == (pytest.approx(permuted.pvalue), "sign-flip")


def test_what_has_no_seed_or_dimension_is_compared_with_every_one(make_record: Make, write_runs: Write) -> None:
    records = [make_record("auh", dim, seed) for dim in (64, 256) for seed in (0, 1, 2)]
    pixels = make_record("raw_pixels", None, None, kind="pixels", title="Raw pixels")
    collection = collect([write_runs([*records, pixels])])
    rows = [row for row in _rows(collection, "auh") if row["metric"] == "logistic_top1"]
    assert [(row["method"], row["embedding_dim"], row["n"]) for row in rows] == [
        ("raw_pixels", 64, 3),
        ("raw_pixels", 256, 3),
    ]


def test_a_method_is_named_by_its_name_its_title_or_its_row(collected: Collect) -> None:
    collection = collected(("sfrik_l2", 64, [0.9, 0.8]), ("auh", 64, [0.8, 0.7]))
    assert _rows(collection, "sfrik_l2") == _rows(collection, "SFRIK L=2") == _rows(collection, "sfrik l=2")
    with pytest.raises(ValueError, match=r"no method 'sfrik' in these tables: there are .*auh \(AUH\)"):
        render(collection, method="sfrik")


def test_variants_of_a_method_are_named_by_their_rows(make_record: Make, write_runs: Write) -> None:
    records = [
        make_record("auh", 64, seed, network={"batch_size": size}, axes={"batch_size": size})
        for size in (128, 256)
        for seed in (0, 1)
    ]
    collection = collect([write_runs(records)])
    with pytest.raises(
        ValueError, match="'auh' is several rows: name one of them as it stands, 'AUH, batch_size=128' "
    ):
        render(collection, method="auh")
    assert {row["label"] for row in _rows(collection, "AUH, batch_size=128")} == {"AUH, batch_size=256"}


def test_a_run_that_failed_and_a_dimension_that_was_not_run_are_told(make_record: Make, write_runs: Write) -> None:
    records = [make_record("auh"), make_record("vicreg", status="diverged"), make_record("simclr", 256)]
    text = render(collect([write_runs(records)]), "md", "logistic_top1", "auh")
    assert "diverged 1/1" in text
    assert "AUH was not run at D=256." in text
    text = render(collect([write_runs(records)]), "md", "logistic_top1", "vicreg")
    assert "VICReg: diverged 1/1" in text  # not AUH, in whose row it stands
    assert "No pair: no test." in text


def test_table_says_the_tests_and_the_correction(collected: Collect) -> None:
    collection = collected(("auh", 64, [0.9, 0.8, 0.85]), ("vicreg", 64, [0.8, 0.72, 0.74]))
    text = render(collection, "md", method="auh")
    assert "difference to AUH; C=1.0, split=test**" in text
    assert "-9.7 ± 3.8" in text
    assert "paired t over n=3 seeds (the sign-flip test needs 6); Holm-corrected over the table's 1 test." in text


def test_csv_carries_the_figures(collected: Collect) -> None:
    collection = collected(("auh", 64, [0.9, 0.8, 0.85]), ("vicreg", 64, [0.8, 0.72, 0.74]))
    (row,) = csv.DictReader(io.StringIO(render(collection, "csv", method="auh")))
    assert [*row][-7:] == ["difference", "low", "high", "p", "p_holm", "n", "test"]


def _few_labels(make_record: Make, write_runs: Write, values_MSD: Any, keep: bool) -> Any:
    protocol = {"labels_per_class": 1, "draws": values_MSD.shape[-1], "probe": "logistic C=1", "split": "test"}
    records = []
    for method, values_SD in zip(("auh", "vicreg"), values_MSD, strict=True):
        for seed, values in enumerate(values_SD):
            metric = Metric(metric="fewshot_top1", protocol=protocol, value=values.mean(), sd=values.std(ddof=1))
            details = {"draws": {metric.name: values.tolist()}} if keep else {}
            measured = {"probe": "fewshot", "metrics": (metric,), "details": details}
            records.append(make_record(method, 64, seed, metrics=(), measurements=[measured]))
    return collect([write_runs(records)])


@pytest.mark.parametrize("keep", [True, False])
def test_intervals_of_few_labels_are_over_draws_where_the_records_hold_them(
    make_record: Make, write_runs: Write, keep: bool
) -> None:
    noise = np.random.default_rng(0)
    draws = noise.normal(0, 0.05, size=(1, 1, 6))  # the same label sets for all, easy and hard
    values_MSD = 0.8 + draws + noise.normal(0, 0.02, size=(2, 4, 1)) + noise.normal(0, 0.01, size=(2, 4, 6))
    collection = _few_labels(make_record, write_runs, values_MSD, keep)
    over_seeds = half_width(values_MSD[0].mean(axis=1).std(ddof=1), 4)
    summary = summarise(collection)
    own = summary[(summary["method"] == "auh") & (summary["metric"] == "fewshot_top1")].iloc[0]
    assert own["half_width"] == pytest.approx(crossed_mean(values_MSD[0]).half_width if keep else over_seeds)
    (row,) = _rows(collection, "auh")
    # What all networks share in a draw is no part of a difference.
    paired = crossed_mean(values_MSD[1] - values_MSD[0])
    expected = paired if keep else crossed_mean((values_MSD[1] - values_MSD[0]).mean(axis=1, keepdims=True))
    assert row["high"] - row["low"] == pytest.approx(2 * float(expected.half_width))
    assert (row["p"], row["test"]) == (pytest.approx(float(expected.p)), "crossed t" if keep else "paired t")
    said = "two crossed random effects" if keep else "draws count as fixed"
    assert said in render(collection, "md")
    assert said in render(collection, "md", method="auh")
    assert "by_draw" not in collection.tidy()


def _cells(collection: Any) -> dict[str, list[str]]:
    (table,) = accuracy(summarise(collection))
    return {row["Method"]: [row[name] for name in row if name.startswith("D=")] for row in table.rows}


def test_the_best_is_marked_and_what_no_test_tells_from_it(collected: Collect) -> None:
    spread = 0.01 * np.array([-1, 0, 1, 0.5, -0.5])
    near, far = 0.895 + spread[::-1], 0.7 + 1.01 * spread
    collection = collected(("auh", 64, 0.9 + spread), ("vicreg", 64, near), ("simclr", 64, far), ("simclr", 256, far))
    cells = _cells(collection)
    assert (cells["AUH"][0][-2:], cells["VICReg"][0][-2:]) == (" *", " †")
    assert cells["SimCLR"] == ["70.0 ± 1.0", "70.0 ± 1.0"]  # told from the best; alone in its column
    (table,) = accuracy(summarise(collection))
    assert table.notes[-1] == (
        "*: best of its column; †: not significantly different from it (two-sided paired t over n=5 seeds (the"
        " sign-flip test needs 7); Holm-corrected over the table's 2 tests, at the 5 % level)."
    )


def test_where_nothing_is_told_apart_that_is_said_and_the_best_alone_is_marked(collected: Collect) -> None:
    collection = collected(("auh", 64, [0.9, 0.8]), ("vicreg", 64, [0.8, 0.85]), ("simclr", 64, [0.7, 0.82]))
    marked = [name for name, (cell,) in _cells(collection).items() if cell[-1] in "*†"]
    assert marked == ["AUH"]
    (table,) = accuracy(summarise(collection))
    assert table.notes[-1].endswith("Here no difference from the best is significant: there are too few seeds.")


def test_one_seed_is_not_tested(collected: Collect) -> None:
    (table,) = accuracy(summarise(collected(("auh", 64, [0.9]), ("vicreg", 64, [0.8]))))
    assert table.notes[-1] == "*: best of its column; with one seed nothing can be tested."
    assert table.rows[0]["D=64"] == "90.0 *"


def test_equal_methods_are_both_best(collected: Collect) -> None:
    cells = _cells(collected(("auh", 64, [0.9]), ("vicreg", 64, [0.9])))
    assert cells == {"AUH": ["90.0 *"], "VICReg": ["90.0 *"]}


def test_references_are_not_marked_and_other_units_have_no_best(digits: Path) -> None:
    summary = summarise(collect([digits]))
    *_, pixels, untrained = accuracy(summary)[0].rows
    assert not {*"*†"} & {*pixels["no D"], *untrained["no D"]}
    (rank, *_) = accuracy(summary, "rankme")
    assert not any("*" in note for note in rank.notes)
