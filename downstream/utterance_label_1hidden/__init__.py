"""Classification of utterances by any label, one hidden layer on the mean over time; see README.md."""
