"""The command line: `main`, one module for each command, and what they share: `options`, `reach`.

May import everything; nothing imports it.
"""
