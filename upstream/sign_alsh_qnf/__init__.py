"""Sign-ALSH with query normalisation first."""
