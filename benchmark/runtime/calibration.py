"""The constants of the cost model, kept for every device on which ``spherebench cost --calibrate`` measured them."""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmark.runtime.errors import full_disk_told
from benchmark.runtime.provenance import device_name
from methods.engine.forms import Constants
from results.record import write_atomically


def constants_path(device: torch.device) -> Path:
    """Where runs on devices of this name look: in the user's cache, which the nodes of a cluster share."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spherebench" / "devices" / f"{re.sub(r'[^A-Za-z0-9]+', '-', device_name(device)).strip('-')}.json"


def constants_of(device: torch.device) -> Constants:
    """Those that were measured on such a device, or else the ones that come along; a damaged file is left out."""
    try:
        path = constants_path(device)
        measured = json.loads(path.read_text(encoding="utf-8"))["constants"]
        return Constants(**{name: float(value) for name, value in measured.items()})
    except (FileNotFoundError, RuntimeError):  # of a user without a home
        return Constants()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{path}: is left out, spherebench cost --calibrate writes it anew: {error}", stacklevel=2)
        return Constants()


def keep_constants(device: torch.device, constants: Constants, **measured: Any) -> Path:
    """Write them where :func:`constants_of` finds them, with what they were made of."""
    path = constants_path(device)
    content = {"device": device_name(device), "constants": asdict(constants), **measured}
    with full_disk_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())
    return path
