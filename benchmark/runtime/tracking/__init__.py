"""Trackers, each with a store of its own, that receive the training curve as it grows."""
