"""Self-attention: the yardstick of every ratio."""
