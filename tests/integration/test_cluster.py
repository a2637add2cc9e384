"""The server on a Ray cluster: gateways and learners on its nodes."""

from __future__ import annotations

import subprocess
import sys


def test_server_of_one_machine_needs_no_ray() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import server.cli, server.commands.serve, server.supervisor.session, config.models\n"
        "assert not [name for name in sys.modules if name.startswith('server.cluster')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
