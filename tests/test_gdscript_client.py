"""The GDScript client: it parses, and with a Godot 4 at hand its bytes are the golden ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from foreign import HELLOS, ROOT, SERVER, canonical, elements, listened, packed, results, same

FOLDER = ROOT / "clients/gdscript"
SCRIPTS = sorted([*FOLDER.rglob("*.gd"), *(ROOT / "tests/gdscript").glob("*.gd")])
