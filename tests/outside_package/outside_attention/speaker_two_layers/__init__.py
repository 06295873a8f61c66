"""Speaker of an utterance, read through one small hidden layer."""
