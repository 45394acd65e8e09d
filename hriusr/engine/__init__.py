"""Loops and effects: training, evaluation, checkpoints, records."""
