"""From records to tables and plots, without torch: a table is regenerated in a second on a login node."""
