import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.collect import collect, short_source
from results.readable import figure
from results.record import Cost, Metric
from results.summary import summarise
from results.tables import accuracy, cost, render, unfinished

Make = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def shown(digits: Path) -> list[dict[str, str]]:
    """The rows of the first accuracy table of the digits suite."""
    return [*accuracy(summarise(collect([digits])))[0].rows]


def test_title_says_data_set_metric_and_protocol(digits: Path) -> None:
    titles = [table.title for table in accuracy(summarise(collect([digits])))]
    assert titles[0] == (
        "digits: Logistic regression, top-1 accuracy (%); C=1.0, split=test, features=backbone, epoch=60"
    )
    assert len(titles) == len(set(titles)) == 5


def test_cell_is_the_mean_and_interval_over_seeds(digits: Path, shown: list[dict[str, str]]) -> None:
    tidy = collect([digits]).tidy()
    values = tidy[(tidy["method"] == "auh") & (tidy["embedding_dim"] == 64) & (tidy["metric"] == "logistic_top1")][
        "value"
    ]
    half = 12.706204736174707 * values.std() / 2**0.5
    row = next(row for row in shown if row["Method"] == "AUH")
    assert row["D=64"] == f"{100 * values.mean():.1f} ± {100 * half:.1f}"


def test_failure_is_shown_and_n_given_where_it_differs(shown: list[dict[str, str]]) -> None:
    cells = {row["Method"]: row for row in shown}
    assert cells["Barlow Twins"]["D=1024"].endswith("(n=1), diverged 1/2")
    assert "n=" not in cells["Barlow Twins"]["D=64"]


def test_baseline_has_its_own_column_and_says_what_it_measured(shown: list[dict[str, str]]) -> None:
    *_, pixels, untrained = shown
    assert pixels == {
        "Method": "Raw pixels (features=pixels, epoch=0)",
        "no D": "85.0 (n=1)",
        "D=64": "",
        "D=256": "",
        "D=1024": "",
    }
    assert untrained["Method"] == "Untrained network (epoch=0)"
    assert shown[0]["no D"] == ""


def test_cell_that_was_not_run_is_said_to_be_so(make_record: Make, write_runs: Write) -> None:
    records = [make_record("auh", 64), make_record("vicreg", 64), make_record("vicreg", 256)]
    table = accuracy(summarise(collect([write_runs(records)])))[0]
    assert table.rows[0]["D=256"] == "–"
    assert table.notes[0] == "One seed (n=1), no interval, where no other n is given. –: not run."


def test_suite_of_failures_only_still_tells_what_happened(make_record: Make, write_runs: Write) -> None:
    collection = collect([write_runs([make_record(status="out-of-memory", message="needs 3 GB | has 2")])])
    for format in ("plain", "md", "latex"):
        assert "out-of-memory" in render(collection, format)
    assert unfinished(collection)[0].rows[0]["Message"] == "needs 3 GB | has 2"
    assert json.loads(render(collection, "json"))[0]["failures"] == "out-of-memory 1/1"


def test_measurements_that_did_not_finish_are_listed_beside_networks(make_record: Make, write_runs: Write) -> None:
    record = make_record(metrics=(), measurements=[{"probe": "knn", "status": "failed"}])
    networks, measurements = unfinished(collect([write_runs([record, make_record(seed=1, status="diverged")])]))
    assert (networks.title, measurements.title) == ("Networks that did not finish", "Measurements that did not finish")
    assert measurements.rows == [
        {"Network": record.id, "Probe": "knn", "Status": "failed", "Message": "knn ran out of patience"}
    ]


def test_two_temperatures_are_two_tables_one_after_the_other(make_record: Make, write_runs: Write) -> None:
    measurements = [
        {
            "probe": "knn",
            "settings": {"knn_temperature": temperature},
            "metrics": [Metric(metric="knn_top1", protocol={"k": 20, "T": temperature}, value=value)],
        }
        for temperature, value in ((0.1, 0.8), (0.07, 0.9))
    ]
    tables = accuracy(summarise(collect([write_runs([make_record(metrics=(), measurements=measurements)])])))
    assert [(table.title.partition("; ")[2], table.rows[0]["D=64"]) for table in tables] == [
        ("k=20, T=0.07", "90.0"),
        ("k=20, T=0.1", "80.0"),
    ]


def test_data_sets_do_not_share_a_table(make_record: Make, write_runs: Write) -> None:
    records = [make_record(network={"data": {"source": source}}) for source in ("mnist", "npz:/some/where/own.npz")]
    titles = [
        table.title.split(":")[0] for table in accuracy(summarise(collect([write_runs(records)])), "logistic_top1")
    ]
    assert titles == ["mnist", "npz"]
    assert short_source("npz:/some/where/own.npz") == "npz:own.npz"


def test_cost_table_gives_time_and_memory_in_units(make_record: Make, write_runs: Write) -> None:
    (table,) = cost(summarise(collect([write_runs([make_record()])])))
    assert table.title == "digits: cost; device=cpu, threads=2, processes=1"
    assert table.rows == [
        {
            "Method": "SFRIK L=2",
            "D": "64",
            "Form": "dual",
            "n": "1",
            "Step (ms)": "30.0",
            "Loss (ms)": "6.00",
            "Images/s": "8533",
            "Step peak (MiB)": "90.0",
            "Loss peak (MiB)": "18.0",
            "Training (s)": "9.00",
        }
    ]
    assert "tensor storages" in table.notes[0]


def test_cost_table_keeps_failures_and_leaves_baselines_out(digits: Path) -> None:
    (table,) = cost(summarise(collect([digits])))
    assert len(table.rows) == 18
    assert [row["Not done"] for row in table.rows if row["Not done"]] == ["diverged 1/2"]


def test_run_that_measured_no_cost_has_no_empty_columns(make_record: Make, write_runs: Write) -> None:
    (table,) = cost(summarise(collect([write_runs([make_record(cost=Cost(train_seconds=5.0))])])))
    assert [*table.rows[0]] == ["Method", "D", "Form", "n", "Training (s)"]


@pytest.mark.parametrize("format", ["csv", "json"])
def test_figures_for_programs_carry_everything(digits: Path, format: str) -> None:
    collection = collect([digits])
    text = render(collection, format)
    rows = json.loads(text) if format == "json" else list(csv.DictReader(io.StringIO(text)))
    wanted = {"method", "embedding_dim", "seeds", "metric", "protocol", "mean", "low", "high", "n", "failures", "unit"}
    assert wanted <= {*rows[0]}
    own = [row for row in rows if row["metric"] == "logistic_top1" and row["method"] == "vicreg"]
    tidy = collection.tidy()
    values = tidy[(tidy["method"] == "vicreg") & (tidy["embedding_dim"] == 64) & (tidy["metric"] == "logistic_top1")]
    assert float(own[0]["mean"]) == values["value"].mean()
    assert own[0]["protocol"] == "C=1.0, features=backbone, split=test, epoch=60"
    assert {"step_seconds", "peak_bytes_loss", "rankme"} <= {row["metric"] for row in rows}


def test_one_metric_alone(digits: Path) -> None:
    collection = collect([digits])
    assert {row["metric"] for row in json.loads(render(collection, "json", "rankme"))} == {"rankme"}
    assert "Effective rank (RankMe) (dimensions); split=test, features=embedding, epoch=60" in render(
        collection, "md", "rankme"
    )


def test_unknown_format_is_refused_before_any_work(digits: Path) -> None:
    with pytest.raises(ValueError, match="unknown format 'html'"):
        render(collect([digits]), "html")


@pytest.mark.parametrize(
    ("mean", "half", "unit", "text"),
    [
        (0.9312, 0.004, "fraction", "93.1 ± 0.4"),
        (0.9312, float("nan"), "fraction", "93.1"),
        (1234.5, 12.3, "s", "1234 ± 12"),
        (0.01234, 0.0001, "s", "0.0123 ± 0.0001"),
        (-3.4567, 0.0, "nats", "-3.46"),
        (0.0, float("nan"), "s", "0.00"),
    ],
)
def test_figure_reads_as_in_a_paper(mean: float, half: float, unit: str, text: str) -> None:
    assert figure(mean, half, unit) == text


def test_tables_take_no_torch(digits: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from results.collect import collect\nfrom results.tables import render\n"
        f"collection = collect([Path({str(digits)!r})])\n"
        "print(render(collection, 'md'), render(collection, 'csv'))\n"
        "loaded = {'torch', 'benchmark', 'methods', 'matplotlib', 'seaborn'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "VICReg" in done.stdout
