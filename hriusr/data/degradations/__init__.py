"""Blind degradations of second order: blur, resize, noise and JPEG, twice, as a camera and the web apply them.

From Real-ESRGAN (Wang et al., arXiv:2107.10833), which Real-HAT takes over. Every random number comes from a
generator that follows from (seed, position of the sample) alone.
"""
