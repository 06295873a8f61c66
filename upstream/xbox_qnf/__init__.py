"""XBOX with query normalisation first."""
