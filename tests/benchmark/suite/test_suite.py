"""Suites: layers, axes, overrides, skips and the sentences that bad input gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.networks.backbones import BackboneSpec, build_backbone
from benchmark.networks.kinds import Weights
from benchmark.networks.layouts import write_backbone
from benchmark.runtime.errors import UserError
from benchmark.suite.expand import Suite, load_suite, parse_overrides, read_suite, suite_names, suite_path
from benchmark.suite.measure import rows_of
from benchmark.suite.run import measurements

TINY = """
description: a suite for tests
defaults:
  data: {source: digits, tune_fraction: 0.2}
  augmentation: grey
  backbone: {name: small_cnn, width: 8}
  projector: {hidden: 16}
  epochs: 2
  batch_size: 64
  optimizer: {name: adamw, base_lr: 1e-3, warmup_epochs: 1}
methods:
  vicreg: {loss: {covariance_weight: 2.0}, optimizer: {base_lr: 5e-4}}
grid:
  method: [sfrik_l2, vicreg]
  embedding_dim: [8, 16]
  seed: [0, 1]
baselines: [raw_pixels, untrained]
skip:
  - when: {method: vicreg, embedding_dim: [16, 32]}
    reason: left out here
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def _edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def _networks(suite: Suite, method: str) -> list[Any]:
    return [cell.run.network for cell in suite.cells if cell.run.network.method == method]


def _probes(suite: Suite, method: str) -> list[list[str]]:
    cells = [cell for cell in suite.cells if cell.run.network.method == method]
    return [[measurement.probe.name for measurement in cell.run.measurements] for cell in cells]


def test_the_product_of_the_axes_less_the_skipped_cells_plus_the_baselines(tiny: Path) -> None:
    suite = load_suite(str(tiny))
    assert [(run.embedding_dim, run.seed) for run in _networks(suite, "sfrik_l2")] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert [run.embedding_dim for run in _networks(suite, "vicreg")] == [8, 8]
    assert suite.skipped == tuple(
        ({"method": "vicreg", "embedding_dim": 16, "seed": seed}, "left out here") for seed in (0, 1)
    )
    assert len(_networks(suite, "raw_pixels")) == 1
    assert [run.seed for run in _networks(suite, "untrained")] == [0, 1]
    assert not {"seed", "epochs", "batch_size"} & _networks(suite, "raw_pixels")[0].model_dump().keys()


def test_later_layers_win(tiny: Path) -> None:
    suite = load_suite(str(tiny), ["optimizer.weight_decay=0.5"])
    vicreg, sfrik = _networks(suite, "vicreg")[0], _networks(suite, "sfrik_l2")[0]
    assert (vicreg.optimizer.base_lr, sfrik.optimizer.base_lr) == (5e-4, 1e-3)
    assert vicreg.loss["covariance_weight"] == 2.0
    assert vicreg.optimizer.weight_decay == sfrik.optimizer.weight_decay == 0.5


def test_a_row_of_another_name_is_of_the_method_that_its_settings_say(tiny: Path) -> None:
    _edited(tiny, "methods:\n", "methods:\n  slow: {method: vicreg, optimizer: {base_lr: 1e-5}}\n")
    _edited(tiny, "[sfrik_l2, vicreg]", "[slow, vicreg]")
    suite = load_suite(str(tiny), ["seed=0", "embedding_dim=8,16"])
    found = {
        (cell.axes["method"], run.embedding_dim): run
        for cell in suite.cells
        if hasattr(run := cell.run.network, "loss")
    }
    assert {key: run.optimizer.base_lr for key, run in found.items()} == {
        **{("slow", 8): 1e-5, ("slow", 16): 1e-5},
        ("vicreg", 8): 5e-4,  # a reason to leave out vicreg is none to leave out another row of it
    }
    assert {run.method for run in found.values()} == {"vicreg"}
    alone = load_suite(str(tiny), ["method=slow"])
    assert [run.optimizer.base_lr for run in _networks(alone, "vicreg")] == [1e-5] * 4


def test_the_methods_defaults_are_in_the_run_and_so_in_its_hash(tiny: Path) -> None:
    run = _networks(load_suite(str(tiny)), "sfrik_l2")[0]
    explicit = run.model_copy(update={"loss": {**run.loss}})
    other = run.model_copy(update={"loss": {**run.loss, "align_weight": run.loss["align_weight"] * 2}})
    assert run.loss["align_weight"] > 0
    assert explicit.id == run.id
    assert other.id != run.id


def test_published_coefficients_are_converted_in_the_open(tiny: Path) -> None:
    _edited(tiny, "loss: {covariance_weight: 2.0}", "loss: {published_sim_coeff: 24.0}")
    run = _networks(load_suite(str(tiny)), "vicreg")[0]
    assert run.loss["align_weight"] == 24.0 / 8
    assert "published_sim_coeff" not in run.loss


def test_a_list_becomes_an_axis_and_a_bracket_stays_a_value(tiny: Path) -> None:
    suite = load_suite(str(tiny), ["epochs=1,3", "method=sfrik_l2", "evaluation.probes=[knn,logistic]"])
    assert {run.epochs for run in _networks(suite, "sfrik_l2")} == {1, 3}
    assert _networks(suite, "vicreg") == []
    assert _probes(suite, "sfrik_l2")[0] == ["knn", "logistic"]
    assert "epochs" in suite.cells[0].axes


def test_execution_changes_no_id_and_more_values_keep_the_digest(tiny: Path) -> None:
    plain = load_suite(str(tiny))
    busy = load_suite(str(tiny), ["workers=3", "log_every=1"])
    longer = load_suite(str(tiny), ["embedding_dim=8,16,64"])
    other = load_suite(str(tiny), ["epochs=9"])
    assert [cell.run.id for cell in plain.cells] == [cell.run.id for cell in busy.cells]
    assert busy.execution.workers == 3
    assert plain.digest == busy.digest == longer.digest != other.digest


def test_what_is_measured_changes_neither_a_network_nor_the_digest(tiny: Path) -> None:
    plain = load_suite(str(tiny))
    cold = load_suite(str(tiny), ["evaluation.knn_temperature=0.1", "evaluation.precision=bf16"])
    assert [cell.run.id for cell in plain.cells] == [cell.run.id for cell in cold.cells]
    assert plain.digest == cold.digest
    pairs = zip(plain.cells[0].run.measurements, cold.cells[0].run.measurements, strict=True)
    assert all(before.id != after.id for before, after in pairs)
    one = load_suite(str(tiny), ["evaluation.knn_temperature=0.1"])
    changed = [
        after.probe.name
        for before, after in zip(plain.cells[0].run.measurements, one.cells[0].run.measurements, strict=True)
        if before.id != after.id
    ]
    assert changed == ["knn"]


def test_an_axis_of_the_measurements_makes_no_second_network(tiny: Path) -> None:
    suite = load_suite(str(tiny), ["method=sfrik_l2", "evaluation.knn_temperature=0.07,0.1", "evaluation.probes=[knn]"])
    assert len(_networks(suite, "sfrik_l2")) == 4
    assert {tuple(names) for names in _probes(suite, "sfrik_l2")} == {("knn", "knn")}


def test_probes_are_for_the_networks_that_they_concern(tiny: Path) -> None:
    suite = load_suite(str(tiny), ["evaluation.probes=[knn,linear,embedding,fewshot_embedding,spectrum,fewshot_svm]"])
    assert _probes(suite, "sfrik_l2")[0] == ["knn", "linear", "embedding", "fewshot_embedding", "fewshot_svm"]
    assert _probes(suite, "untrained")[0] == ["knn", "linear", "fewshot_svm"]
    assert _probes(suite, "raw_pixels")[0] == ["knn", "fewshot_svm"]


def test_what_no_probe_is_for_is_left_out_with_a_reason_and_refused_where_nothing_is_left(tiny: Path) -> None:
    suite = load_suite(str(tiny), ["evaluation.probes=linear"])
    assert {cell.run.network.method for cell in suite.cells} == {"sfrik_l2", "vicreg", "untrained"}
    assert suite.skipped[-1] == ({"method": "raw_pixels"}, "none of evaluation.probes applies to raw_pixels")
    with pytest.raises(UserError, match=r"evaluation\.probes: none applies to sfrik_l2, vicreg, raw_pixels"):
        load_suite(str(tiny), ["evaluation.probes=spectrum"])


@pytest.mark.parametrize(
    "grid",
    [
        "  backbone: [{name: small_cnn, width: 4}, {name: small_cnn, width: 8}]\n",
        "  backbone.width: [4, 8]\n",
        "  data: [{limit: 100}, {limit: 200}]\n",
        "  data.limit: [100, 200]\n",
    ],
)
def test_an_axis_may_be_a_whole_section_for_baselines_too(tiny: Path, grid: str) -> None:
    suite = load_suite(str(_edited(tiny, "  seed: [0, 1]\n", f"  seed: [0, 1]\n{grid}")))
    assert len(_networks(suite, "sfrik_l2")) == 8
    assert len(_networks(suite, "untrained")) == 4
    assert len(_networks(suite, "raw_pixels")) == (2 if "data" in grid else 1)


def test_all_rows_are_measured_along_an_axis_of_the_measurements_or_of_the_data(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text() + "weights:\n  - {file: some.pth, title: Somebody's, get: the moon}\n")
    (tmp_path / "weights").mkdir()
    _write_backbone(tmp_path / "weights" / "some.pth", width=4)
    given = ["evaluation.probes=knn", "evaluation.knn_temperature=0.1,0.2", f"data_root={tmp_path}"]
    suite = load_suite(str(tiny), [*given, "data.source=digits,mnist"])
    asked = {(source, T) for source in ("digits", "mnist") for T in (0.1, 0.2)}
    for method in ("sfrik_l2", "raw_pixels", "weights"):
        measurements = [
            one for cell in suite.cells if cell.run.network.method == method for one in cell.run.measurements
        ]
        assert {(one.data.source, one.probe.model_dump()["knn_temperature"]) for one in measurements} == asked
    assert len(_networks(suite, "weights")) == 1


def test_rows_of_weights_are_measured_where_they_are_and_left_out_with_a_sentence_where_not(
    tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(tiny.read_text() + "weights:\n  - {file: some.pth, title: Somebody's, get: the moon}\n")
    root = tmp_path / "data"
    absent = load_suite(str(tiny), [f"data_root={root}"])
    assert absent.skipped[-1] == ({"weights": "some.pth"}, f"is not in {root}/weights; get it from the moon")
    (root / "weights").mkdir(parents=True)
    _write_backbone(root / "weights" / "some.pth", width=4)
    (network,) = _networks(load_suite(str(tiny), [f"data_root={root}"]), "weights")
    assert network.title == "Somebody's"
    _write_backbone(root / "weights" / "some.pth", width=8)
    (other,) = _networks(load_suite(str(tiny), [f"data_root={root}"]), "weights")
    assert other.id != network.id


def _write_backbone(path: Path, width: int) -> None:
    spec = BackboneSpec(name="small_cnn", width=width)
    write_backbone(build_backbone(spec, channels=1, seed=0)[0].state_dict(), path)


def test_ids_are_equal_for_equal_runs_only(tiny: Path) -> None:
    ids = [cell.run.id for cell in load_suite(str(tiny)).cells]
    assert ids == [cell.run.id for cell in load_suite(str(tiny)).cells]
    assert len(set(ids)) == len(ids)


def test_the_suite_of_transfer_has_a_probe_for_every_data_set_that_it_lists() -> None:
    file = read_suite(suite_path("transfer"))
    assert file.description.count("\n") >= 2
    rows, skipped = rows_of(file, [], {}, Path("nowhere"), download=True, where="transfer.yaml")
    assert (len(rows), skipped) == (len(file.measure), [])
    weights = Weights(name="any", path="any.pth", content="any")
    for data, evaluation in rows:
        (asked,) = measurements(evaluation, weights, data)
        assert asked.probe.name == ("multilabel" if data.source == "voc07" else "transfer")
        assert (asked.tested_on is None) == ("tested_on" not in evaluation)
    assert {data.source for data, _ in rows} > {"food101", "flowers102", "dtd", "pets", "aircraft", "cars", "svhn"}


@pytest.mark.parametrize("name", sorted({*suite_names()} - {"transfer"}))
def test_every_suite_that_makes_networks_expands(name: str) -> None:
    suite = load_suite(name)
    assert suite.cells
    assert len({cell.run.id for cell in suite.cells}) == len(suite.cells)
    assert read_suite(suite_path(name)).description.count("\n") >= 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: 2", "epoch: 2", r"tiny\.yaml: defaults\.epoch: unknown key; allowed are .*epochs"),
        ("base_lr: 1e-3", "lr: 1e-3", r"tiny\.yaml: defaults\.optimizer\.lr: unknown key; allowed are name, base_lr"),
        ("grid:", "grids:", r"tiny\.yaml: grids: unknown key; allowed are description, defaults, grid"),
        ("[sfrik_l2, vicreg]", "[sfrik_l9]", r"tiny\.yaml: method 'sfrik_l9' is not known; there are .*sfrik_l2"),
        ("covariance_weight: 2.0", "covariance_weight: -2.0", r"methods\.vicreg\.loss.*covariance_weight.*-2"),
        ("covariance_weight: 2.0", "kernel: rbf", r"tiny\.yaml: methods\.vicreg\.loss.*kernel.*covariance_weight"),
        ("embedding_dim: [8, 16]", "embedding_dim: [1]", r"tiny\.yaml: grid\.embedding_dim: is 1, should be greater"),
        ("embedding_dim: [8, 16]", "embedding_dim: []", r"tiny\.yaml: grid\.embedding_dim: is empty"),
        ("source: digits", "source: digit", r"tiny\.yaml: defaults\.data\.source: .*'digit'.*digits"),
        ("augmentation: grey", "augmentation: gray", r"tiny\.yaml: defaults\.augmentation: .*'gray'.*grey"),
        ("epochs: 2", "epochs: two", r"tiny\.yaml: defaults\.epochs: is 'two', should be a valid integer"),
        ("  batch_size: 64\n", "", r"tiny\.yaml: batch_size: must be given"),
        (
            "epochs: 2",
            "epochs: 2\n  evaluation: {knn_K: [1]}",
            r"tiny\.yaml: defaults\.evaluation\.knn_K: unknown key; allowed are .*knn_k",
        ),
        (
            "epochs: 2",
            "epochs: 2\n  evaluation: {probes: [knm]}",
            r"defaults\.evaluation\.probes: probe 'knm' is not known; there are",
        ),
        (
            "epochs: 2",
            "epochs: 2\n  evaluation: {draws: 0}",
            r"tiny\.yaml: defaults\.evaluation\.draws: is 0, should be greater",
        ),
        (
            "warmup_epochs: 1",
            "warmup_epochs: 3",
            r"optimizer\.warmup_epochs: is 3, must be at most the 2 epochs of the",
        ),
        (", warmup_epochs: 1", "", r"tiny\.yaml: optimizer\.warmup_epochs: is 10, must be at most the 2 epochs"),
        ("seed: [0, 1]", "seed: [0, 1, 0]", r"tiny\.yaml: grid\.seed: lists 0 twice"),
        ("[8, 16]", "[8, 8.0]", r"tiny\.yaml: grid\.embedding_dim: lists 8.0 twice"),
        ("[raw_pixels, untrained]", "[untrained, untrained]", r"tiny\.yaml: baselines: lists 'untrained' twice"),
        (
            "when: {method: vicreg,",
            "when: {methode: vicreg,",
            r"skip\.0\.when\.methode: unknown key; .*method is meant",
        ),
        ("when: {method: vicreg,", "when: {optimizer.nam: x,", r"skip\.0\.when\.optimizer\.nam: unknown key; .*name"),
        ("when: {method: vicreg,", "when: {method: vicrge,", r"tiny\.yaml: method 'vicrge' is not known"),
        (
            "epochs: 2",
            "epochs: 2\n  regime: {ridges: 0}",
            r"tiny\.yaml: defaults\.regime\.ridges: unknown key; allowed are .*ridge",
        ),
    ],
)
def test_bad_input_names_file_key_and_what_is_allowed(tiny: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_suite(str(_edited(tiny, old, new)))


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("epoch=3", r"--set epoch: unknown key; allowed are .*; perhaps epochs is meant$"),
        ("epochs", r"must read KEY=VALUE"),
        ("epochs=", r"has no value"),
        ("workers=1,2", r"--set workers: takes one value"),
        ("workers=-1", r"--set workers: is -1, should be greater than or equal to 0"),
        ("embedding_dim=1", r"embedding_dim: is 1, should be greater than or equal to 2"),
        ("loss.align_weight=-1", r"--set loss.*align_weight"),
        ("seed=0,0", r"^--set seed: lists 0 twice$"),
        ("method=[auh,auh]", r"^--set method: lists 'auh' twice$"),
        ("evaluation.knn_k=0", r"^--set evaluation\.knn_k: is 0, should be greater than or equal to 1$"),
        ("evaluation.knn_k=5,-1", r"^--set evaluation\.knn_k: is -1, should be greater than or equal to 1$"),
        ("evaluation.knn_k=5,1e0,1", r"^--set evaluation\.knn_k: lists 1 twice$"),
        ("evaluation.knn_k=[]", r"^--set evaluation\.knn_k: is \(\), should hold at least one$"),
        ("evaluation.labels_per_class=0", r"^--set evaluation\.labels_per_class: is 0, should be greater"),
        ("evaluation.probes=[]", r"^--set evaluation\.probes: is \(\), should hold at least one$"),
        ("evaluation.probes=knn,knn", r"^--set evaluation\.probes: lists 'knn' twice$"),
        ("download=yes", r"--set download: is 'yes', should be true or false"),
        ("epochs=010", r"--set epochs: is '010', should be a valid integer"),
        ("batch_size=1:00", r"--set batch_size: is '1:00', should be a valid integer"),
        ("data.source=digits,mnits", r"^--set data\.source: is 'mnits', must be one of digits"),
        ("precision=fp8", r"--set precision: is 'fp8', should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
    ],
)
def test_bad_overrides_are_refused(tiny: Path, assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_suite(str(tiny), [assignment])


def test_what_is_filled_in_from_the_data_cannot_be_given(tiny: Path) -> None:
    said = r"data\.content: is filled in from the data themselves, and cannot be given; leave it out$"
    for assignment in ("data.content=abc", "data.content=null", "data.content=abc,def"):
        with pytest.raises(UserError, match=said):
            load_suite(str(tiny), [assignment])
    for assignment in ("content=abc", "kind=trained"):
        with pytest.raises(UserError, match=r"--set (content|kind): unknown key; allowed are"):
            load_suite(str(tiny), [assignment])
    with pytest.raises(UserError, match=rf"tiny\.yaml: defaults\.{said}"):
        load_suite(str(_edited(tiny, "source: digits", "source: digits, content: abc")))
    row = "weights:\n  - {file: some.pth, title: Somebody's, get: the moon, backbone: {name: resnet18}}\n"
    tiny.write_text(TINY + row)
    with pytest.raises(UserError, match=r"tiny\.yaml: weights\.0\.backbone: unknown key; allowed are file, title"):
        load_suite(str(tiny))


def test_an_unknown_suite_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="'digitz' is not known; there are cifar10, cifar10_small, digits"):
        load_suite("digitz")
    with pytest.raises(UserError, match="no such file"):
        load_suite("nowhere/suite.yaml")


@pytest.mark.parametrize(
    ("assignment", "values"),
    [
        ("a=1e-3,2", [1e-3, 2]),
        ("a=0123,no,1:30", ["0123", "no", "1:30"]),
        ("a=b=c", ["b=c"]),
        ("data.source=npz:/x/y.npz", ["npz:/x/y.npz"]),
        ("data.source=folder:/a #b, c[d]: {e}, 'f'", ["folder:/a #b, c[d]: {e}, 'f'"]),
        ("data.source=npz:a,b.npz, digits,folder:no", ["npz:a,b.npz", "digits", "folder:no"]),
        ("data.source=digits,mnits", ["digits", "mnits"]),
        ("data.source=[digits, folder:[x]]", ["digits", "folder:[x]"]),
        ("data.source='folder:/a,digits'", ["folder:/a,digits"]),
        ("data_root=/a #b, [c]: d", ["/a #b, [c]: d"]),
        ("data_root=[a],b", ["[a],b"]),
        ("data_root=0123", ["0123"]),
        ("data_root='/a'", ["/a"]),
        ("method=[simclr, vicreg]", ["simclr", "vicreg"]),
        ("embedding_dim=[8,16]", [8, 16]),
        ("evaluation.probes=knn", [["knn"]]),
        ("evaluation.probes=knn,logistic", [["knn", "logistic"]]),
        ("evaluation.probes=[knn,logistic]", [["knn", "logistic"]]),
        ("evaluation.knn_k=[5],[10,20]", [[5], [10, 20]]),
        ("loss.weights=[1,2]", [[1, 2]]),
    ],
)
def test_overrides_parse_numbers_lists_and_paths(assignment: str, values: list[object]) -> None:
    (found,) = parse_overrides([assignment]).values()
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_a_whole_number_may_have_an_exponent_and_a_list_brackets(tiny: Path) -> None:
    meant = load_suite(str(tiny), ["embedding_dim=1000", "method=sfrik_l2,simclr", "evaluation.knn_k=[10,5]"])
    typed = load_suite(str(tiny), ["embedding_dim=1e3", "method=[sfrik_l2,simclr]", "evaluation.knn_k=1e1,5"])
    assert [cell.run for cell in typed.cells] == [cell.run for cell in meant.cells]
    assert [cell.run.id for cell in typed.cells] == [cell.run.id for cell in meant.cells]
    assert typed.digest == meant.digest
