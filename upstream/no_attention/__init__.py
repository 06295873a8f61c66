"""A control: no frame sees another."""
