"""The two rows that every table needs, by name; cheap to import."""

BASELINE = "self_attention"  # what times and scores are compared with
MEL = "mel"  # the row without an encoder; scores are compared with it where the baseline has none
