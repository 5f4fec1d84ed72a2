"""``python -m snowskin.mooncake install | uninstall | status``."""

import sys

from .install import main

sys.exit(main())
