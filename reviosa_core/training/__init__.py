"""A module and its losses in, the trained module out: the loop, its processes, what is seen when."""
