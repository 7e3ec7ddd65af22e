"""Trackers, each with a store of its own, that are told the curve of a training while it grows."""
