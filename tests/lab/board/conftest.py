"""Make the helpers beside this file importable by name, here and in child processes of the
board.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
