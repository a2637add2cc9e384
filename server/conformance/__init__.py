"""Any server or any client against the protocol: the command `conformance`."""
