"""The facts of a log and what follows from them: the fold to a chat, the lifecycle, compaction. Pure.

Imports only `errors`: no clock, no loop, no socket.
"""
