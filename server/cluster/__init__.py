"""The server on several machines, on Ray: gateways and learners on any node of a cluster."""
