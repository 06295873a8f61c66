"""Speaker classification with one linear layer on the mean over time; see README.md."""
