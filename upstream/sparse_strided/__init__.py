"""Sparse attention, strided: the neighbourhood, and every l-th frame."""
