"""The command `fcnbook`.

Each subcommand is one function that returns the exit status: 0 done, 1 something failed, 2 the input cannot be used
(one sentence says why), 130 interrupted. torch is imported only by the commands that need it.
"""

from fcnbook.cli._main import main

__all__ = ["main"]
