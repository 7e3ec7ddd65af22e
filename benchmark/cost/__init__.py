"""What losses and training steps cost: measured beside the published forms of the same thing, in one run."""
