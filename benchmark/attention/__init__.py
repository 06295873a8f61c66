"""What trained attentions look at: maps derived from checkpoints."""
