"""The audit before a long run: pictures, pairs, leaks, one step for real, learning rate, memory, speed, disk."""
