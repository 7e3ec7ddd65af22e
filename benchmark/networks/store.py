"""The weights that a network leaves: one safetensors file, with the network's input in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.networks.base import Input
from benchmark.runtime.errors import UserError, full_disk_told
from results.record import write_atomically

WEIGHTS_NAME = "weights.safetensors"


def save_weights(folder: Path, state: Mapping[str, Tensor], input: Input) -> None:
    """Write the weights, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = save(tensors, {"input": json.dumps(asdict(input))})
    with full_disk_told(folder):
        write_atomically(folder / WEIGHTS_NAME, content)


def load_weights(folder: Path) -> tuple[dict[str, Tensor], Input]:
    """The weights in ``folder``, on the CPU. Raises :class:`UserError` where they are not there or damaged."""
    path = folder / WEIGHTS_NAME
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            header = json.loads(file.metadata()["input"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; its weights were not kept, or cleaned away") from error
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    return state, Input(**{**header, "mean": tuple(header["mean"]), "std": tuple(header["std"])})


def keep_backbone(folder: Path) -> None:
    """Drop the projector from the weights in ``folder``."""
    state, input = load_weights(folder)
    if any(name.startswith("projector.") for name in state):
        save_weights(folder, {name: value for name, value in state.items() if name.startswith("backbone.")}, input)


def drop_weights(folder: Path) -> None:
    """Remove the weights in ``folder``."""
    (folder / WEIGHTS_NAME).unlink(missing_ok=True)


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def all_finite(state: Mapping[str, Tensor]) -> bool:
    """Whether every number is one."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point())
