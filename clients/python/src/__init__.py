"""The clients under the names that document assistants import: ``from src.supabase_client import supabase_client``."""

import sys
from pathlib import Path

# The modules themselves are in the folder above, wherever that was put.
_folder = str(Path(__file__).resolve().parent.parent)
if _folder not in sys.path:
    sys.path.append(_folder)
