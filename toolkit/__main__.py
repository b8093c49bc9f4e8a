"""``python -m toolkit``: the command where its script is not on the path."""

from toolkit.cli.start import main

if __name__ == "__main__":
    main()
