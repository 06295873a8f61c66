"""Sparse attention, fixed: blocks, and the last frame of every block."""
