"""TLS on the way to a server: 1.2 or later, with a certificate that is trusted for its name."""

from __future__ import annotations

import socket
import ssl
from os import PathLike

from understudy_client.errors import TlsError


def context(tls: bool | ssl.SSLContext, ca: str | PathLike[str] | None) -> ssl.SSLContext | None:
    """What to connect with; None for no TLS.

    `tls`: True, or a context of the caller's own. `ca`: a file (PEM) with the certificates to trust
    instead of the system's; with it TLS is used in any case. Errors: ValueError for a file that
    cannot be used, and where both a context and a file are given.
    """
    if isinstance(tls, ssl.SSLContext):
        if ca is not None:
            raise ValueError("ca: expected none beside a context; have the context load it")
        return tls
    if not tls and ca is None:
        return None
    try:
        made = ssl.create_default_context(cafile=ca)
    except OSError as error:
        reason = "expected certificates as PEM" if isinstance(error, ssl.SSLError) else error
        raise ValueError(f"ca: cannot use {ca}: {reason}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def secured(plain: socket.socket, tls: ssl.SSLContext, address: tuple[str, int]) -> ssl.SSLSocket:
    """The socket with TLS on it; closed where there is none to be had. Errors: TlsError, OSError
    for a connection that is lost meanwhile."""
    where = f"{address[0]}:{address[1]}"
    try:
        return tls.wrap_socket(plain, server_hostname=address[0])
    except BaseException as error:
        plain.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise TlsError(
                f"the certificate of {where} is not trusted: {error.verify_message}; give the "
                "certificate that it is to be trusted by (ca=FILE; --ca FILE where it is a "
                "command), or connect to the name that it is of"
            ) from error
        if isinstance(error, ssl.SSLError) and not isinstance(
            error, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            reason = (error.reason or str(error)).lower().replace("_", " ")
            raise TlsError(
                f"expected TLS at {where}, got something else ({reason}); is it the right port, "
                "and does the server have a certificate (server.tls_cert)?"
            ) from error
        raise
