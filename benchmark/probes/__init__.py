"""What a frozen network is worth: one probe a module, registered by its being there (:mod:`benchmark.probes.base`)."""
