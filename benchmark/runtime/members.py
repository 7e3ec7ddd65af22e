"""Folders whose modules register something by being there: probes, trackers."""

import importlib
import pkgutil


def import_all(package: str) -> None:
    """Import every module in the folder of ``package``, in the order of their names."""
    folder = importlib.import_module(package).__path__
    for module in sorted(pkgutil.iter_modules(folder), key=lambda module: module.name):
        importlib.import_module(f"{package}.{module.name}")
