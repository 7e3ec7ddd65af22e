"""A profile asks for resources, run by run, and tells what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.runtime.errors import UserError
from slurm.profile import load_profile, profile_paths


@pytest.mark.parametrize("name", sorted(profile_paths()))
def test_the_shipped_profiles_are_valid(name: str) -> None:
    assert load_profile(name).description


def test_a_run_may_ask_for_more(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text(
        "description: wide\nresources: {gpus_per_node: 1}\nshapes:\n"
        "  - when: {embedding_dim: {min: 8192}}\n    ask: {gpus_per_node: 4}\n"
        "  - when: {method: [vicreg, simclr], data.source: cifar10}\n    ask: {minutes: 600}\n"
    )
    profile = load_profile(str(path))
    digits = {"source": "digits"}
    assert profile.resources_of({"embedding_dim": 512, "method": "auh", "data": digits}).gpus_per_node == 1
    assert profile.resources_of({"embedding_dim": 8192, "method": "auh", "data": digits}).gpus_per_node == 4
    assert profile.resources_of({"embedding_dim": None, "method": "raw_pixels", "data": digits}).gpus_per_node == 1
    cifar = {"embedding_dim": 512, "method": "vicreg", "data": {"source": "cifar10"}}
    assert profile.resources_of(cifar).minutes == 600
    assert profile.resources_of(cifar | {"data": digits}).minutes == 60


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


@pytest.mark.parametrize(("text", "expected"), [("minutes", "KEY=VALUE"), ("gpus=4", "--resource gpus: unknown key")])
def test_a_bad_resource_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_profile("slurm", [text])
