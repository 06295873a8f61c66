"""Phone recognition by CTC, one linear layer a frame; see README.md."""
