"""Phone classification with two hidden layers a frame; see README.md."""
