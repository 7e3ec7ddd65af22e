"""The harness: from a suite file to records on disk."""
