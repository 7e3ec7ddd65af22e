"""What every room stands on: errors, processes, seeds, files, memory, signals, provenance."""
