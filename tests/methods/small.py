"""The registered methods at the small embedding dimensions of the tests."""

from functools import partial

from methods import registry

# What a method needs below the dimensions that it was published for.
OPTIONS = {"zonal_kl": {"normaliser": "uniform"}}


def small(name):
    """The method of that name as a function of the views, with what it needs at a small dimension."""
    return partial(registry.get(name), **OPTIONS.get(name, {}))
