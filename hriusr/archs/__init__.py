"""Networks: wiring of blocks, registered by name."""
