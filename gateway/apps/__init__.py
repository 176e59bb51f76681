"""Applications: each adds routes, tools, tables and page parts through `gateway.extension`.

An application imports another only if it is built on it. Nothing below imports an application.
"""
