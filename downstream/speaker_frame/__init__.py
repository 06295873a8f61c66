"""Speaker classification with one linear layer a frame; see README.md."""
