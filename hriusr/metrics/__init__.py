"""Image quality metrics and the reports made of them."""
