"""`python -m fibflow`: the same as the command `fibflow`, which is in `cli`."""

from fibflow.cli import main

if __name__ == "__main__":
    main()
