"""Self-attention whose keys are its queries."""
