"""Routing attention: frames that fall to the same centroid attend to one another."""
