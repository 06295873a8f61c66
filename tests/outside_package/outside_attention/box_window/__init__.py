"""Each frame takes the mean of the frames around it."""
