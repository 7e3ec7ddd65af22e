"""The committed records say what they said in the schema that they were converted from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from results.runs import Records, read_runs

FACTS = json.loads((Path(__file__).parent / "reference_facts.json").read_text())
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def facts(network: Records) -> dict[str, Any]:
    """A network's facts, laid out as the digests were taken of them."""
    record, converted = network.network, network.network.converted
    assert converted is not None
    metrics = [metric for measurement in network.measurements for metric in measurement.metrics]
    content = record.model_dump(mode="json")
    # What records have said since: nothing of what was said is in them.
    assert not any(content["provenance"].pop(name) for name in ("flags", "cost_model"))
    assert content["provenance"].pop("jobs") == 1
    assert content["cost"].pop("resident_bytes") is None
    found: dict[str, Any] = {
        "figures": sorted([metric.name, metric.value, metric.sd, metric.unit] for metric in metrics),
        "cost": {**content["cost"], "evaluation_seconds": converted.evaluation_seconds},
        **{name: content[name] for name in ("form", "status", "title", "provenance")},
    }
    spectra = [measurement.details for measurement in network.measurements if measurement.probe == "spectrum"]
    if spectra:
        found["spectrum"] = spectra[0]["eigenvalues"]
    if curve := network.curve():
        found["curve"] = curve
    return found


@pytest.mark.parametrize("suite", sorted(FACTS))
def test_every_figure_is_what_it_was_before(suite: str) -> None:
    networks = read_runs([REFERENCE / suite])
    digests = {}
    for network in networks:
        if network.network.converted is None:  # of rows that came since
            continue
        text = json.dumps(facts(network), sort_keys=True)
        digests[network.network.converted.id] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digests == FACTS[suite]


def test_the_digests_see_a_figure_that_changed() -> None:
    network = read_runs([REFERENCE / "regime_spirals"])[0]
    before = facts(network)
    first = network.measurements[0]
    moved = first.metrics[0].model_copy(update={"value": first.metrics[0].value + 1e-9})
    changed = first.model_copy(update={"metrics": (moved, *first.metrics[1:])})
    other = Records(network.network, (changed, *network.measurements[1:]), network.place, network.packed)
    assert facts(other) != before
