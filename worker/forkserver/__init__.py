"""The fork server: the parent of every worker, its control groups and the tiny init.

It imports `agent` and `sandbox`.
"""
