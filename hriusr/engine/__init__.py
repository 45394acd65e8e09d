"""Loops and effects: training, evaluation, tiling, checkpoints."""
