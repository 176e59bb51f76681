"""`python -m worker`: the built-in agent on stdin and stdout."""

import sys

from worker.agent.agent import main

if __name__ == "__main__":
    sys.exit(main(0, 1))
