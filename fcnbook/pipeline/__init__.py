"""Sample -> Batch: augmentation, the order of the samples, and decoded caches. Taught in notebook 00."""
