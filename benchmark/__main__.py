"""``python -m benchmark`` is the command ``spherebench``."""

from benchmark.cli import main

main()
