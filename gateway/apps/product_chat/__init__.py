"""Product chat: anonymous visitors talk about one product, over REST and WebSockets.

It reads the shop's catalogue and carts.
"""
