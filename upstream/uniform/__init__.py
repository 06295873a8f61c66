"""A control: every frame gets the mean over all frames."""
