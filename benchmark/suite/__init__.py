"""From a suite file to Runs: settings, expansion, tuning."""
