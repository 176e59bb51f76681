"""The HTTP interface, one file for each subject or protocol: parse, call a session, render.

Imports `sessions` and `http`, and what lies below them. No application is named here.
"""
