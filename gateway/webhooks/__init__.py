"""The webhook: one address hears, signed, that somebody should look (docs/webhook.md).

`signing.py` signs, `spool.py` keeps what waits, `delivery.py` sends and tries again, `watching.py` sees
in the sessions what is worth saying. It imports `sessions` and what is below.
"""
