"""`python main.py ...` is `dmlr run ...`: the command line of the published code."""

import sys

from dmlr.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
