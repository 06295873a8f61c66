"""Random Synthesizer: attention weights that are trained parameters."""
