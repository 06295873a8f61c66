"""The study's proposal: input-independent weights that start from hand-crafted maps."""
