"""Classification of utterances by any label, one linear layer on the mean over time; see README.md."""
