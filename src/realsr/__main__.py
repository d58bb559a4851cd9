"""The commands of the console script `realsr`, as `python -m realsr COMMAND …`."""

from realsr.cli import main

if __name__ == "__main__":
    main()
