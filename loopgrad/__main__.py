"""`python -m loopgrad`."""

from loopgrad.cli import main

if __name__ == "__main__":
    main()
