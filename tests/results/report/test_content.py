"""What the page shows is what the records and the tables say, and it holds all of it."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from gzip import decompress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmark.cli import main
from results.collect import collect
from results.paired import against
from results.report import page
from results.report.content import content
from results.runs import LeftOut, pack
from results.summary import select, summarise
from results.tables import accuracy

REFERENCE = Path(__file__).parents[3] / "results" / "reference"
Make = Callable[..., Any]
Write = Callable[..., Path]


def shown(html: str) -> dict[str, Any]:
    """What a page holds, read back as the browser does."""
    (text,) = re.findall(r'<script type="application/gzip" id="content">(.*?)</script>', html, flags=re.DOTALL)
    found: dict[str, Any] = json.loads(decompress(b64decode(text)))
    return found


def test_every_figure_of_the_summary_is_in_the_page(digits: Path, tmp_path: Path) -> None:
    out = page.write([digits], tmp_path / "page.html")
    (chapter,) = shown(out.read_text(encoding="utf-8"))["chapters"]
    told = {}
    for table in chapter["tables"]:
        for row in table["rows"]:
            own = chapter["configurations"][row["c"]]
            told[table["metric"], table["key"], own["D"], chapter["methods"][own["method"]]["label"]] = row
    summary = summarise(collect([digits]))
    assert len(told) == len(summary)
    for _, row in summary.iterrows():
        dim = row["embedding_dim"]
        (own,) = [
            found
            for (metric, key, at, label), found in told.items()
            if (metric, at, label) == (row["metric"], None if pd.isna(dim) else dim, row["label"])
            and key.startswith(row["key"])
        ]
        assert own["mean"] == (pytest.approx(row["mean"], rel=1e-5) if row["n"] else None)
        assert (own["n"], own["failures"]) == (row["n"], row["failures"])


def test_marks_notes_and_figures_are_those_of_the_tables(digits: Path) -> None:
    (chapter,) = content([digits])["chapters"]
    printed = accuracy(summarise(collect([digits])))
    headline = [table for table in chapter["tables"] if table["headline"]]
    assert len(headline) == len(printed)
    for own, table in zip(headline, printed, strict=True):
        assert own["notes"] == list(table.notes)
        for row in own["rows"]:
            configuration = chapter["configurations"][row["c"]]
            (cells,) = [
                line
                for line in table.rows
                if line["Method"].startswith(chapter["methods"][configuration["method"]]["label"])
            ]
            cell = cells[f"D={configuration['D']}" if configuration["D"] else "no D"]
            assert cell.startswith(row["text"])
            assert cell.endswith(row["mark"])
            assert row["failures"] in cell


def test_differences_to_every_method_are_those_of_tables_against(digits: Path) -> None:
    (chapter,) = content([digits])["chapters"]
    summary = summarise(collect([digits]))
    place = next(place for place, table in enumerate(chapter["tables"]) if table["metric"] == "logistic_top1")
    for base, found in chapter["differences"][place].items():
        (expected,) = against(select(summary, "logistic_top1"), chapter["methods"][base]["label"])
        pairs = [item.paired for item in expected.found if item.paired]
        values = sorted((row["difference"], row["low"], row["p_holm"], row["n"]) for row in found["rows"])
        told = sorted((pair.difference, pair.low, pair.p_holm, pair.n) for pair in pairs)
        np.testing.assert_allclose(values, told, rtol=1e-9)  # nan where one seed gives no interval
    named = {chapter["methods"][base]["label"] for base in chapter["differences"][place]}
    assert named == {method["label"] for method in chapter["methods"]} - {"Raw pixels"}, (
        "which has one seed, and no test"
    )


def test_a_folder_of_suites_and_sweeps_is_a_chapter_each_and_a_network_may_be_of_two(tmp_path: Path) -> None:
    names = ("cost-cpu", "digits", "digits-tune", "regime_digits")
    for name in names:
        shutil.copytree(REFERENCE / name, tmp_path / name)
    chapters = {chapter["name"]: chapter for chapter in content([tmp_path])["chapters"]}
    assert set(chapters) == set(names)
    for name in ("digits", "regime_digits"):
        lines = (REFERENCE / name / "records.jsonl").read_bytes().splitlines()
        networks = [json.loads(line)["record"]["id"] for line in lines if line.startswith(b'{"line":"network"')]
        assert sorted(run["id"] for run in chapters[name]["runs"]) == sorted(networks)
    assert next(iter(chapters)) == "digits", "candidates and costs come after what was compared"


def test_a_run_has_the_log_of_its_failure_and_its_attempts(make_record: Make, write_runs: Write) -> None:
    record = make_record(status="failed", message="no memory")
    folder = write_runs([record, make_record(seed=1, measurements=[{"probe": "linear", "status": "failed"}])])
    (folder / record.id / "network.txt").write_text("Traceback\nMemoryError\n")
    (folder / record.id / "attempts.jsonl").write_text('{"event": "start", "host": "a"}\n{"event": "sta')
    (chapter,) = content([folder])["chapters"]
    failed, other = sorted(chapter["runs"], key=lambda run: run["status"] != "failed")
    assert (failed["message"], failed["log"]) == ("no memory", "Traceback\nMemoryError\n")
    assert failed["attempts"] == [{"event": "start", "host": "a"}]
    (linear,) = [own for own in other["measurements"] if own["probe"] == "linear"]
    assert (linear["status"], linear["message"]) == ("failed", "linear ran out of patience")


def test_what_is_left_out_is_told_in_the_page_and_by_a_warning(
    make_record: Make, write_runs: Write, tmp_path: Path
) -> None:
    folder = write_runs([make_record(), make_record(seed=1)])
    (folder / make_record(seed=1).id / "network.json").write_text("{")
    with pytest.warns(LeftOut, match="damaged record"):
        out = page.write([folder], tmp_path / "page.html")
    (sentence,) = shown(out.read_text(encoding="utf-8"))["left_out"]
    assert "damaged record" in sentence


@pytest.mark.parametrize("packed", [False, True])
def test_a_curve_keeps_its_ends_its_terms_and_what_is_not_finite(
    make_record: Make, write_runs: Write, tmp_path: Path, packed: bool
) -> None:
    record = make_record()
    folder = write_runs([record])
    log = [{"step": step, "loss": step / 3, "terms": {"alignment": 1.0}, "online_top1": 0.5} for step in range(1000)]
    log += [{"step": 999, "loss": float("nan"), "terms": {"alignment": float("inf")}}]
    torn = '\n{"loss": 1.0}\n{"step": 998, "los'
    (folder / record.id / "metrics.jsonl").write_text("\n".join(map(json.dumps, log)) + torn)
    if packed:
        pack(folder, tmp_path / "runs.jsonl")
    (chapter,) = content([tmp_path / "runs.jsonl" if packed else folder])["chapters"]
    steps, values = chapter["runs"][0]["curve"]["step"], chapter["runs"][0]["curve"]["values"]
    assert (steps[0], steps[-1]) == (0, 999)
    assert 100 < len(steps) <= 161
    assert (values["loss"][-1], values["alignment"][-1], values["online_top1"][-1]) == (None, None, None)
    assert values["loss"][:-1] == [float(f"{step / 3:.4g}") for step in steps[:-1]]
    assert values["online_top1"][:-1] == [0.5] * (len(steps) - 1)


def test_a_page_of_a_thousand_measurements_is_under_a_megabyte(
    digits_records: Callable[[int], list[Any]], write_runs: Write, tmp_path: Path
) -> None:
    records = digits_records(13)
    assert sum(len(record.measurements) for record in records) > 900
    folder = write_runs(records)
    for record in records:
        line = {"loss": 1.23456789, "terms": {"alignment": 1.2345, "regulariser": 0.98765}, "lr": 0.001234}
        log = "".join(json.dumps({"step": 10 * step, "epoch": step, **line}) + "\n" for step in range(500))
        (folder / record.id / "metrics.jsonl").write_text(log)
    out = page.write([folder], tmp_path / "page.html")
    assert out.stat().st_size < 1e6
    assert len(shown(out.read_text(encoding="utf-8"))["chapters"][0]["runs"]) == len(records)


def test_the_page_is_made_without_torch_and_without_a_plotting_library(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from results.report import page;"
        f"page.write([Path({str(digits)!r})], Path({str(tmp_path / 'page.html')!r}));"
        "print({'torch', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr


def test_the_same_records_give_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    first, second = (page.write([digits], tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_no_record_can_leave_its_element_or_run(make_record: Make, write_runs: Write) -> None:
    hostile = '</script><script>alert("x")</script><!-- \u2028 {{script}}'
    folder = write_runs([make_record(status="failed", message=hostile, title=hostile)])
    html = page.render(content([folder]))
    assert html.count("<script") == 2
    assert shown(html)["chapters"][0]["runs"][0]["message"] == hostile
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_command_writes_the_page_beside_the_runs(digits: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits, tmp_path / "digits")
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.output == f"wrote {folder}/report.html\n"
    packed = tmp_path / "elsewhere" / "page.html"
    assert CliRunner().invoke(main, ["report", str(folder), "--out", str(packed)]).exit_code == 0
    assert packed.read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "runs folder nowhere: there is no such folder"),
        (["nowhere", "--serve"], "nowhere: there is no such folder"),
        ([".", "--serve", "--out", "page.html"], "--out: with --serve nothing is written"),
        ([".", "--port", "80"], "--port: only with --serve"),
        ([".", "--serve", "--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 8321: cannot be"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["report", *arguments])
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("Error: " + said)
