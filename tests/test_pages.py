"""The rooms' pages keep their word: each example, as it stands, adds what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("methods/README.md", "benchmark/README.md")}

# What is done with each example: it runs in a process of its own, so that nothing stays registered.
USES = {
    "A loss": """
import torch
loss = registry.get("variance")([torch.randn(8, 4), torch.randn(8, 4)], reg_weight=2.0)
assert loss.value.item() > 0
print("variance" in registry.names())
""",
    "A probe": """
from benchmark.suite.run import compose
from benchmark.data import DataSpec
settings = {"method": "raw_pixels", "data": {"source": "digits"}, "evaluation": {"probes": ["norm"], "norm_p": 1.0}}
run = compose(settings, DataSpec.identified)
print(run.measurements[0].probe.norm_p == 1.0 and run.measurements[0].id.startswith("norm-"))
""",
    "A data set": """
from pathlib import Path
from benchmark.data import DataSpec, load
data = load(DataSpec(source="stripes", tune_fraction=0.2), Path("."))
print(len(data.train) == 80 and len(data.tune) == 20)
""",
    "A recipe": """
import torch
import numpy as np
from benchmark.views import batched, recipe
pixels = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
made = [torch.full((3, 3, side, side), -1.0) for side in recipe("gentle").sides(28)]
for view, out in zip(recipe("gentle").views, made, strict=True):
    batched.views(batched.steps(view, np.arange(3), 28, (0,), (16, 16)), pixels, [out])
print([(out.shape[-1], out.min() >= 0) for out in made] == [(28, True), (12, True)])
""",
    "A backbone": """
import torch
from benchmark.networks.backbones import BackboneSpec, build_backbone
network, features = build_backbone(BackboneSpec(name="pooled_pixels", width=12), 3, seed=0)
print(network(torch.rand(2, 3, 8, 8)).shape == (2, features) == (2, 12))
""",
    "A kind of network": """
from pathlib import Path
import torch
from benchmark.data import load
network = Means(data=DataSpec(source="digits"))
frozen = network.load(Path("."), load(network.data, Path(".")), torch.device("cpu"))
assert network.id.startswith("channel_means-")
print(frozen.module(torch.ones(2, 1, 8, 8)).shape == (2, 1))
""",
}


def _examples() -> dict[str, str]:
    sections = [section.split("\n", 1) for page in PAGES.values() for section in re.split(r"\n#+ ", page)[1:]]
    found = {heading: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) for heading, text in sections}
    return {heading: code for heading, codes in found.items() for code in codes}


def test_every_example_is_there_and_about_ten_lines() -> None:
    examples = _examples()
    assert examples.keys() == USES.keys()
    for heading, code in examples.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= 13, heading


# Each program in a fork of one process that has loaded what takes long, and not asked for any option yet: what is
# registered later is not among those. What the last line of each printed.
RUNS = """
import json, os, sys
import benchmark.networks.backbones, benchmark.suite.run, benchmark.views.batched

for heading, program in json.load(sys.stdin).items():
    print(f"\\n{heading}: ", end="", flush=True)
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        exec(program, {"__name__": "__main__"})
        sys.exit()
"""


@pytest.fixture(scope="module")
def said() -> str:
    programs = json.dumps({heading: _examples()[heading] + use for heading, use in USES.items()})
    command = [sys.executable, "-W", "error", "-c", RUNS]
    done = subprocess.run(command, cwd=ROOT, input=programs, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr


@pytest.mark.parametrize("heading", USES)
def test_an_example_adds_what_it_says(heading: str, said: str) -> None:
    assert f"\n{heading}: True\n" in said, said


def test_the_suite_is_one(tmp_path: Path) -> None:
    from benchmark.suite.expand import load_suite

    (text,) = re.findall(
        r"```yaml\n(.*?)```", PAGES["benchmark/README.md"].partition("### A suite")[2], flags=re.DOTALL
    )
    (tmp_path / "first.yaml").write_text(text)
    suite = load_suite(str(tmp_path / "first.yaml"))
    assert len(suite.cells) == 2 * 2 * 2 + 1


def test_the_files_that_pages_name_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:methods|benchmark|tests)/[\w/.]+)`", "".join([page, *PAGES.values()])):
        assert (ROOT / path).exists(), path
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)", text):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_the_readme_is_finished_in_one_sitting() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 150
