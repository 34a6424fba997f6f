"""Data sets, augmentation and loading: files -> Sample -> Batch. Taught in notebook 00."""
