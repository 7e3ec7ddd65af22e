import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmark.cli import main
from results import plots
from results.collect import collect
from results.compare import render as render_comparison
from results.outputs import write
from results.runs import LeftOut, pack, read_runs
from results.summary import headline, summarise
from results.tables import render

Make = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def packed(digits: Path, tmp_path: Path) -> Path:
    """The digits suite as one file."""
    assert pack(digits, tmp_path / "digits.jsonl") == len(read_runs([digits]))
    return tmp_path / "digits.jsonl"


def ids(*places: Path) -> list[str]:
    return [records.network.id for records in read_runs(places)]


def test_network_comes_with_its_measurements_curve_and_place(digits: Path) -> None:
    (records,) = read_runs([next(digits.glob("auh-d64-s0-*"))])
    assert records.place.name == records.network.id
    assert [record.probe for record in records.measurements] == ["embedding", "fewshot", "knn", "logistic"]
    assert len(records.curve()) == 60


def test_damaged_record_is_named_and_left_out(make_record: Make, write_runs: Write) -> None:
    good, bad = make_record(seed=0), make_record(seed=1)
    folder = write_runs([good, bad])
    damaged = folder / bad.id / "network.json"
    damaged.write_bytes(damaged.read_bytes()[:200])
    before = sorted(folder.rglob("*"))
    with pytest.warns(LeftOut, match=f"damaged record .*{bad.id}.*left out"):
        assert ids(folder) == [good.id]
    assert sorted(folder.rglob("*")) == before, "reading writes nothing"


def test_damaged_measurement_costs_its_network_nothing_else(make_record: Make, write_runs: Write) -> None:
    record = make_record()
    folder = write_runs([record])
    (damaged,) = (folder / record.id / "measurements").glob("knn-*.json")
    damaged.write_text('{"schema_version": 2}')
    with pytest.warns(LeftOut, match=f"damaged record .*{damaged.name}: id: Field required; left out"):
        (records,) = read_runs([folder])
    assert [record.probe for record in records.measurements] == ["embedding", "fewshot", "logistic"]


def test_measurement_of_another_network_is_left_out(make_record: Make, write_runs: Write) -> None:
    records = [make_record(), make_record(seed=1, metrics=())]
    folder = write_runs(records)
    shutil.copytree(folder / records[0].id / "measurements", folder / records[1].id / "measurements")
    with pytest.warns(LeftOut, match=f"is of {records[0].id}, another network; left out"):
        assert {len(records.measurements) for records in read_runs([folder])} == {0, 4}


@pytest.mark.parametrize("change", [{"schema_version": 3}, {"weather": "fine"}])
def test_newer_record_is_not_called_damaged(make_record: Make, write_runs: Write, change: dict[str, Any]) -> None:
    record = make_record()
    folder = write_runs([record, make_record(seed=1)])
    path = folder / record.id / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.warns(
        LeftOut, match=f"record .*{record.id}.* is of a newer version of spherebench; left out"
    ) as warned:
        assert len(ids(folder)) == 1
    assert "damaged" not in str(warned[0].message)


def test_older_folder_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "digits" / "auh-s0-0123456789").mkdir(parents=True)
    (tmp_path / "digits" / "auh-s0-0123456789" / "record.json").write_text('{"schema_version": 1}')
    said = "was written by an older version of spherebench, .*; run the suite again into another folder$"
    for place in (tmp_path, tmp_path / "digits"):
        with pytest.raises(ValueError, match=said):
            read_runs([place])


def test_older_record_among_others_is_left_out(make_record: Make, write_runs: Write) -> None:
    folder = write_runs([make_record()])
    (folder / "old").mkdir()
    (folder / "old" / "record.json").write_text("{}")
    with pytest.warns(LeftOut, match=r"record .*old.record\.json is of an older version of spherebench; left out"):
        assert len(ids(folder)) == 1


def test_a_network_in_two_folders_counts_once(make_record: Make, tmp_path: Path) -> None:
    record = make_record()
    for name in ("a", "b"):
        record.write(tmp_path / name / record.id)
    with pytest.warns(LeftOut, match=f"network {record.id} is in .*a.* and again in .*b.*: the first is used"):
        assert len(ids(tmp_path / "a", tmp_path / "b")) == 1


def test_folder_may_be_named_twice_or_be_a_network_or_hold_suites(digits: Path) -> None:
    all_of_it = ids(digits)
    assert ids(digits, digits) == ids(digits.parent) == all_of_it
    assert len(ids(next(digits.glob("sfrik_l2-*")))) == 1


def test_records_deep_inside_a_network_are_not_its_suite(make_record: Make, write_runs: Write) -> None:
    record, copied = make_record(seed=0), make_record(seed=1)
    folder = write_runs([record])
    copied.write(folder / record.id / "snapshot" / "results" / "reference" / copied.id)
    assert ids(folder) == [record.id]


def test_folder_without_records_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no readable network\.json or records\.jsonl in it or two levels down$"):
        read_runs([tmp_path])
    with pytest.raises(ValueError, match="there is no such folder"):
        read_runs([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(ValueError, match="is a file, but none that `spherebench pack` wrote"):
        read_runs([tmp_path / "notes.txt"])


def test_packed_folder_says_what_the_folder_says(digits: Path, packed: Path) -> None:
    folder, file = collect([digits]), collect([packed])
    for format in ("md", "json"):  # for readers, and for programs
        assert render(file, format, "all") == render(folder, format, "all")
        assert render_comparison(file, format) == render_comparison(folder, format)
    assert file.tidy().to_csv() == folder.tidy().to_csv()


@pytest.mark.parametrize("packs", [False, True])
def test_a_table_begins_with_what_the_suite_says(digits: Path, tmp_path: Path, packs: bool) -> None:
    folder, wanted = tmp_path / "runs", ["fewshot_top1[labels_per_class=5]", "knn_top1"]
    shutil.copytree(digits, folder)
    (folder / "suite.json").write_text(json.dumps({"suite": "digits", "headline": wanted}))
    if packs:
        pack(folder, folder := tmp_path / "records.jsonl")
    summary = summarise(collect([folder]))
    shown = headline(summary)[["metric", "key"]].drop_duplicates()
    assert set(shown["metric"]) == {"fewshot_top1", "knn_top1"}
    assert all("labels_per_class=5" in key for key in shown.loc[shown["metric"] == "fewshot_top1", "key"])
    assert headline(summarise(collect([digits])))["metric"].unique().tolist() == ["logistic_top1"]
    done = CliRunner().invoke(main, ["tables", str(folder)])
    assert done.output.count("top-1 accuracy") == 2
    assert "shows what else was measured: fewshot_top1, knn_top1" in done.output


def test_packed_folder_draws_what_the_folder_draws(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one figure of what no table holds: curves.
    monkeypatch.setattr(plots, "_FIGURES", {"loss_curves": plots.loss_curves})
    own, other = tmp_path / "folder", tmp_path / "packed"
    shutil.copytree(digits, own)
    pack(own, other / "records.jsonl")
    for first, second in zip(write(own), write(other), strict=True):
        assert first.name == second.name
        if first.suffix != ".html":  # the page says where each record lies
            assert first.read_bytes() == second.read_bytes()


def test_packing_gives_the_same_bytes_and_lines_that_say_what_they_are(digits: Path, packed: Path) -> None:
    content = packed.read_bytes()
    pack(digits, packed)
    assert packed.read_bytes() == content
    lines = [json.loads(line) for line in content.splitlines()]
    assert lines[:2] == [{"line": "runs", "schema_version": 2}, {"line": "suite", "suite": {"suite": "digits"}}]
    assert {line["line"] for line in lines[2:]} == {"network", "measurement", "curve"}
    assert b"NaN" not in content, "a loss of the diverged network was not finite"


def test_folder_of_packed_suites_is_read_like_a_folder_of_folders(digits: Path, tmp_path: Path) -> None:
    pack(digits, tmp_path / "reference" / "digits" / "records.jsonl")
    assert ids(tmp_path / "reference") == ids(tmp_path / "reference" / "digits") == ids(digits)
    with pytest.raises(ValueError, match="is packed already"):
        pack(tmp_path / "reference" / "digits", tmp_path / "again.jsonl")


def test_packed_file_beside_the_networks_it_was_packed_of_is_not_read_again(
    make_record: Make, write_runs: Write
) -> None:
    folder = write_runs([make_record()])
    pack(folder, folder / "records.jsonl")
    assert len(ids(folder)) == 1


def test_damaged_line_is_named_and_left_out(packed: Path) -> None:
    whole = ids(packed)
    lines = packed.read_bytes().splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if b'"line":"network"' in line)
    packed.write_bytes(b"".join([*lines[:number], lines[number][:99] + b"\n", *lines[number + 1 :]]))
    with pytest.warns(LeftOut, match=re.escape(f"digits.jsonl, line {number + 1}: ")):
        assert ids(packed) == whole[1:]


def test_file_that_a_newer_version_packed_is_said_to_be_so(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes().replace(b'"schema_version":2', b'"schema_version":3', 1))
    with pytest.raises(ValueError, match="was packed by a newer version of spherebench"):
        read_runs([packed])
