"""The kernel regime in the harness: closed forms as Runs, beside what learns no relation.

A Run with a section ``regime`` trains no network. It makes views of the training images (or relates neighbours), fits
one of the estimators of ``methods.regime``, and is measured by the probes of every other Run on the same splits and
draws of labels. Imports nothing heavy, so that a suite is expanded at once.
"""

from benchmark.regime.spec import CLOSED_FORMS, KERNEL_BASELINES, KERNEL_METHODS, KernelSpec, RegimeSpec, kernel_title

__all__ = ["CLOSED_FORMS", "KERNEL_BASELINES", "KERNEL_METHODS", "KernelSpec", "RegimeSpec", "kernel_title"]
