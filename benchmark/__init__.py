"""The benchmark: upstreams x downstreams, accuracy against wall-clock time."""
