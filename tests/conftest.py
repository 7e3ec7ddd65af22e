"""Settings of every test: one thread a process, and the same examples of every property in every run."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
os.environ.setdefault("OMP_NUM_THREADS", "1")
