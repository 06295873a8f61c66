"""A control: constant maps, the mean attention of a trained self-attention."""
