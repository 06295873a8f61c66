"""Phone classification with one linear layer on nine neighbouring frames; see README.md."""
