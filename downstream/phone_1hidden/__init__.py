"""Phone classification with one hidden layer a frame; see README.md."""
