"""One training step: networks, losses, optimiser, EMA."""
