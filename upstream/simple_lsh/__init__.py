"""Simple-LSH: keys scaled into the unit ball and lifted onto the sphere, queries normalised."""
