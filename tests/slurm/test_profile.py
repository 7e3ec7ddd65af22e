"""A profile asks for resources, run by run, and tells what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.runtime.errors import UserError
from slurm.profile import Resources, Stage, load_profile, profile_paths


@pytest.mark.parametrize("name", sorted(profile_paths()))
def test_the_shipped_profiles_are_valid(name: str) -> None:
    assert load_profile(name).description


def test_a_run_may_ask_for_more(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text(
        "description: wide\nresources: {gpus_per_node: 1}\nshapes:\n"
        "  - when: {embedding_dim: {min: 8192}}\n    ask: {gpus_per_node: 4}\n"
        "  - when: {method: {min: 1}}\n    ask: {nodes: 9}\n"
        "  - when: {method: [vicreg, simclr], data.source: cifar10}\n    ask: {minutes: 600}\n"
    )
    profile = load_profile(str(path))
    digits = {"source": "digits"}

    def asked(network: dict[str, Any]) -> Resources:
        return profile.resources_of(network, [], "train")

    assert asked({"embedding_dim": 512, "method": "auh", "data": digits}).gpus_per_node == 1
    assert asked({"embedding_dim": 8192, "method": "auh", "data": digits}).gpus_per_node == 4
    assert asked({"method": "raw_pixels", "data": digits}).gpus_per_node == 1
    cifar = {"embedding_dim": 512, "method": "vicreg", "data": {"source": "cifar10"}}
    assert asked(cifar).minutes == 600
    assert asked(cifar | {"data": digits}).minutes == 60


def test_measuring_may_ask_for_something_else(tmp_path: Path) -> None:
    path = tmp_path / "apart.yaml"
    path.write_text(
        "description: apart\nresources: {gpus_per_node: 8}\nshapes:\n"
        "  - when: {stage: measure}\n    ask: {gpus_per_node: 1}\n"
        "  - when: {stage: measure, probe: [linear, finetune]}\n    ask: {minutes: 600}\n"
        "  - when: {stage: train, embedding_dim: 8192}\n    ask: {nodes: 2}\n"
    )
    profile, network = load_profile(str(path)), {"embedding_dim": 8192}

    def asked(probes: list[str], stage: Stage) -> tuple[int, int, int]:
        found = profile.resources_of(network, probes, stage)
        return found.nodes, found.gpus_per_node, found.minutes

    assert asked(["knn", "linear"], "train") == (2, 8, 60)
    assert asked(["knn", "linear"], "measure") == (1, 1, 600)
    assert asked(["knn"], "measure") == (1, 1, 60)


def test_the_users_own_directory_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "spherebench" / "profiles"
    folder.mkdir(parents=True)
    (folder / "slurm.yaml").write_text("description: ours\nresources: {partition: gpu}\n")
    assert load_profile("slurm").resources.partition == "gpu"
    assert load_profile("slurm", ["partition=cpu", "minutes=5"]).resources.partition == "cpu"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resources: {}", "description: must be given"),
        (
            "description: x\nresources: {partitio: gpu}",
            "resources.partitio: unknown key; allowed are partition, account",
        ),
        ("description: x\nresources: {minutes: 1.5}", "resources.minutes: is 1.5, should be a valid integer"),
        ("description: x\nexecutor: pbs", "executor: is 'pbs', should be 'slurm', 'local' or 'debug'"),
        ("description: x\nshapes: [{when: {seed: 0}, ask: {gpus: 2}}]", "shapes.0.ask.gpus: unknown key"),
        (
            "description: x\nshapes: [{when: {stage: mesure}, ask: {nodes: 2}}]",
            "stage is 'mesure', must be train or measure",
        ),
        (
            "description: x\nshapes: [{when: {embeding_dim: 8}, ask: {nodes: 2}}]",
            "shapes.0.when.embeding_dim: unknown key; allowed are ",
        ),
        (
            "description: x\nshapes: [{when: {data: {sourc: digits}}, ask: {nodes: 2}}]",
            "shapes.0.when.data: is {'sourc': 'digits'}, must be a value, a list of them, or {min:, max:}",
        ),
        (
            "description: x\nshapes: [{when: {data.sourc: digits}, ask: {nodes: 2}}]",
            "shapes.0.when.data.sourc: unknown",
        ),
        (
            "description: x\nshapes: [{when: {evaluation.probes: knn}, ask: {nodes: 2}}]",
            "shapes.0.when.evaluation.probes: is no field of a network; probe names what measures it",
        ),
        (
            "description: x\nshapes: [{when: {embedding_dim: {minimum: 8}}, ask: {nodes: 2}}]",
            "shapes.0.when.embedding_dim: is {'minimum': 8}, must be a value, a list of them, or {min:, max:}",
        ),
        ("description: [", "not valid YAML"),
        ("description: x\nsbatch: {time: 1-00:00:00}", "sbatch: time is given as resources.minutes"),
        ("description: x\nsbatch: {gpus_per_node: 1}", "given as resources.gpus_per_node and gpu_type"),
        ("description: x\nsbatch: {output: x.log}", "sbatch: output is spherebench's own business"),
    ],
)
def test_a_bad_profile_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml") as raised:
        load_profile(str(path))
    assert expected in str(raised.value)


def test_an_unknown_profile_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'nowhere': is not a profile; there are .*local.*slurm"):
        load_profile("nowhere")


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("account=0123", "0123"),
        ("account=123", "123"),
        ("account=1e10", "1e10"),
        ("partition=no", "no"),
        ("partition='null'", "null"),
        ("partition=null", None),
        ("constraint=[rack1|rack2]&a #b", "[rack1|rack2]&a #b"),
        ("gpu_type=2080", "2080"),
        ("cpus_per_task=1e1", 10),
    ],
)
def test_names_are_text_as_it_is_typed(assignment: str, value: object) -> None:
    resources = load_profile("slurm", [assignment]).resources
    assert getattr(resources, assignment.partition("=")[0]) == value


def test_a_profile_has_names_and_numbers_as_people_read_them(tmp_path: Path) -> None:
    path = tmp_path / "named.yaml"
    path.write_text(
        "description: on\nresources: {partition: no, account: 0123, qos: 12, minutes: 1e2}\n"
        "environment: {OMP_NUM_THREADS: 4, ANSWER: yes}\nsbatch: {begin: 16:00:00, deadline: 2026-01-01}\n"
    )
    profile = load_profile(str(path))
    named = profile.resources.partition, profile.resources.account, profile.resources.qos
    assert (profile.description, *named, profile.resources.minutes) == ("on", "no", "0123", "12", 100)
    assert profile.environment == {"OMP_NUM_THREADS": "4", "ANSWER": "yes"}
    assert profile.sbatch == {"begin": "16:00:00", "deadline": "2026-01-01"}


@pytest.mark.parametrize(("text", "expected"), [("minutes", "KEY=VALUE"), ("gpus=4", "--resource gpus: unknown key")])
def test_a_bad_resource_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_profile("slurm", [text])


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:30", 91),
        ("1:30:00", 90),
        ("12:00:00", 720),
        ("0:0:1", 1),
        ("2-00", 2880),
        ("2-12:30", 3630),
        ("1-0:0:30", 1441),
    ],
)
def test_times_are_read_as_slurm_reads_them(tmp_path: Path, text: str, minutes: int) -> None:
    assert load_profile("slurm", [f"minutes={text}"]).resources.minutes == minutes
    path = tmp_path / "timed.yaml"
    path.write_text(
        f"description: x\nresources: {{minutes: {text}}}\nshapes: [{{when: {{seed: 1}}, ask: {{minutes: {text}}}}}]\n"
    )
    profile = load_profile(str(path))
    assert profile.resources.minutes == minutes
    assert profile.resources_of({"seed": 1}, [], "train").minutes == minutes


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "1-", "-5", "1-2-3", "0"])
def test_a_bad_time_is_one_sentence(text: str) -> None:
    with pytest.raises(
        UserError, match=r"--resource minutes: (is '.*', must be whole minutes, or as Slurm|is .*greater)"
    ):
        load_profile("slurm", [f"minutes={text}"])


def test_resources_of_the_command_line_are_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text(
        "description: x\nresources: {memory_gb: 8}\nshapes: [{when: {seed: 1}, ask: {memory_gb: 16, nodes: 2}}]\n"
    )
    asked = load_profile(str(path), ["memory_gb=64"]).resources_of({"seed": 1}, [], "train")
    assert (asked.memory_gb, asked.nodes) == (64, 2)


@pytest.mark.parametrize("option", ["gpus", "gpus_per_task", "ntasks"])
def test_the_number_of_tasks_has_one_name(tmp_path: Path, option: str) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"description: x\nsbatch: {{{option}: 2}}\n")
    with pytest.raises(UserError, match=f"{option} is given as resources.gpus_per_node and nodes"):
        load_profile(str(path))
