"""`python -m broker`: the same as the command `odradek`."""

import sys

from broker.cli import main

sys.exit(main())
