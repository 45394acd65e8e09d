"""hriusr: super-resolution with hyperbolic relative imprinting units, on BasicSR's option files."""

__version__ = "0.1.0"
