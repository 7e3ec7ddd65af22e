"""From records to tables and plots, without torch: a table is regenerated in a second on a login node."""

__version__ = "0.2.0"  # of the whole: a checkout that is not installed has no other word of it
