"""The harness: from a suite file to records on disk."""

import os

# NumPy and SciPy bring an OpenBLAS each, whose threads spin for a while after every product and keep the cores from the
# other's, and from torch's. Let them sleep at once: kernel SimCLR takes half the time, the other fits a sixth less.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "8")
