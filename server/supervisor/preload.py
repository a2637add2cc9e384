"""What children run, imported by the process that is forked for each.

`server.supervisor.fork_server` names this module. What is imported stays: for the collector to look
through it again and again would be a tenth of the time that it takes, and more with each later
collection of each child.
"""

from __future__ import annotations

import gc

gc.disable()
try:
    import server.gateway.process
    import server.supervisor.child
    import server.trainer.process  # noqa: F401
finally:
    gc.freeze()
    gc.enable()
