"""One recipe in one run folder: its files, its start weights, its training, its result."""
