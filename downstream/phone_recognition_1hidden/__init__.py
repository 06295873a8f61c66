"""Phone recognition by CTC, one hidden layer a frame; see README.md."""
