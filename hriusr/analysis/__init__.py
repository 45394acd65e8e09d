"""Looking at networks: what they cost and what they look at."""
