"""Words on a command line in, one of the rooms' answers out, in a few lines: the command `reviosa`."""
