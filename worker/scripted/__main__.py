"""`python -m worker.scripted SCENARIO.json`: the scripted agent on stdin and stdout."""

import sys

from worker.scripted.agent import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
