"""Dense Synthesizer mixed with dot products of queries and keys."""
