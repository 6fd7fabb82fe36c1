"""Runs `python -m commands` as the command `tfrobust`."""

from commands.console import main

if __name__ == "__main__":
    main()
