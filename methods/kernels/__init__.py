"""Rotation-invariant kernels on the sphere, as values."""
