"""From files to tensors: reading, resizing, datasets, sampling, preparation."""
