"""Training losses, registered by name."""
