"""Carrying a suite out: what there is, what is missing, one Run after the other."""
