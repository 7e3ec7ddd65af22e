"""What a frozen network's features and embeddings are worth: one probe, or one kind of measure, a module.

Nothing here looks at a run's seed: every draw (few labels, the order of the linear probe's images, the augmented
views) is keyed by what it is for, so all methods and seeds are measured on the same draws, and the same features give
the same figures.
"""
