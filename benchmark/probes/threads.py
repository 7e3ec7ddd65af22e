"""One thread for problems so small that several would only wait for each other, and torch's for them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """NumPy, SciPy and scikit-learn on one thread inside the block."""
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    """Looked up once, which takes milliseconds: it reads what the process has loaded."""
    import sklearn.linear_model
    import sklearn.svm  # noqa: F401  both bring libraries of their own

    return ThreadpoolController()
