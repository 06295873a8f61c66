"""Simple-ALSH: keys and queries scaled into the unit ball and lifted onto the sphere, each in its own coordinate."""
