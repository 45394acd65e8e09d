"""Building blocks in pure torch: no registry, no options, no files."""
