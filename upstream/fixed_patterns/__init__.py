"""Hand-crafted attention maps that stay as they are, in linear time."""
