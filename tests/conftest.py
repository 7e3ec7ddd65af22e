"""Settings of every test: one thread a process, so that parallel test runs do not fight over cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
