"""`python -m fcnbook.cli`, the same as the command `fcnbook`."""

import sys

from fcnbook.cli._main import main

sys.exit(main())
