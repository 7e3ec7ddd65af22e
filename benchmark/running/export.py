"""Take networks out of a runs folder: a backbone for others, or all weights, to make room."""

from __future__ import annotations

from pathlib import Path

from benchmark.networks.base import WEIGHTS_NAME, load_weights, part_of
from benchmark.networks.kinds import parse_network
from benchmark.networks.layouts import write_backbone
from benchmark.networks.trained import Trained
from benchmark.running.folder import read_record
from benchmark.runtime.errors import UserError
from results.record import NETWORK_NAME, NetworkRecord, network_path


def export(folder: Path, to: Path) -> str:
    """Write the backbone of the network in ``folder``; returns a sentence on how to load it.

    Raises :class:`UserError` where there is no trained network that is done, or its weights were not kept.
    """
    record = read_record(NetworkRecord, network_path(folder))
    if record is None or record.status != "done":
        raise UserError(f"{folder}: holds no network that is done, give RUNS/NETWORK")
    network = parse_network(record.network)
    if not isinstance(network, Trained):
        raise UserError(f"{folder}: is of kind {network.kind}, only a trained network has a backbone to export")
    state, input = load_weights(folder)
    write_backbone(part_of(state, "backbone."), to)
    return f"wrote {to}: {_how_to_load(network, input.channels)}; scale images by mean {input.mean}, std {input.std}"


def _how_to_load(network: Trained, channels: int) -> str:
    name = network.backbone.name
    if name == "small_cnn":
        return "this project's small CNN, for evaluate weights:FILE"
    stem = []
    if network.backbone.stem == "small":
        stem.append(f"conv1 = Conv2d({channels}, 64, 3, padding=1, bias=False), maxpool = Identity()")
    elif channels != 3:
        stem.append(f"conv1 = Conv2d({channels}, 64, 7, 2, 3, bias=False)")
    first = f" with {stem[0]}" if stem else ""
    return f"torchvision.models.{name}(){first} takes it with load_state_dict, all but the classifier fc"


def clean(folder: Path) -> tuple[int, int]:
    """Delete the weights of all networks of ``folder`` that are done; returns how many, and their bytes."""
    removed = []
    paths = sorted(folder.glob(f"*/{NETWORK_NAME}"))
    if not paths:
        raise UserError(f"{folder}: holds no networks")
    for path in paths:
        record, weights = read_record(NetworkRecord, path), path.parent / WEIGHTS_NAME
        if record is not None and record.status == "done" and weights.exists():
            removed.append(weights.stat().st_size)
            weights.unlink()
    return len(removed), sum(removed)
