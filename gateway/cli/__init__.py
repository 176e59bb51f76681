"""The command line, one file for each group of commands. The highest package: it may import any other."""
