"""`python -m dmlr` is the `dmlr` console script."""

from dmlr.cli import console

if __name__ == "__main__":
    console()
