"""What the gateway calls on somebody else's behalf, and which addresses it may lead to."""
