"""The shopping assistant: questions about the shop's catalogue in plain language.

It is built on the shop.
"""
