"""XBOX: one more coordinate gives all keys the same norm, so that angles order them as inner products do."""
