"""``python -m benchmark`` is the command ``spherebench``."""

import os
import sys

# Python looks first in the folder that it is called in, where a user's own results/ or random.py may lie.
_ROOT = os.path.realpath(f"{__file__}/../..")
if not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _ROOT:
    del sys.path[0]

from benchmark.cli import main  # noqa: E402

main()
