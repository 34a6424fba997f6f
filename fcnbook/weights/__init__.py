"""Weights on disk: published files of every source, checkpoints of runs, exported networks."""
