"""TLS for what listens: certificate and key of the configuration, taken up again when they are
renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from config.load import ConfigError
from config.models import ServerConfig

log = logging.getLogger("tls")

RENEW_S = 60.0
"""How often to look whether the files are others."""


class Certificate:
    """A certificate and its key, and the context that connections are made with."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Errors: ConfigError for files that cannot be read or do not belong together."""
        self._cert, self._key = cert, key
        self._stamp = self._stamps()
        self.context = _loaded(cert, key)

    def renew(self) -> None:
        """Take up the files where they are others than before: new connections are made with them.
        Files that cannot be used are said in the log, and the old ones hold."""
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            _loaded(self._cert, self._key)  # a context that fails half-way is of no more use
            self.context.load_cert_chain(self._cert, self._key, _no_passphrase)
        except (ConfigError, OSError) as error:
            log.error("the new certificate cannot be used, so the old one holds: %s", error)
        else:
            log.info("the certificate in %s was renewed", self._cert)

    def _stamps(self) -> list[tuple[int, int]]:
        stamps = []
        for path in (self._cert, self._key):
            try:
                found = path.stat() if path is not None else None
            except OSError:
                found = None
            stamps.append((found.st_mtime_ns, found.st_ino) if found else (0, 0))
        return stamps


def certificate(server: ServerConfig) -> Certificate | None:
    """What these settings say; None without TLS. Errors: ConfigError."""
    if server.tls_cert is None:
        if server.tls_key is not None:
            raise ConfigError("server.tls_key is set and server.tls_cert is not; set both")
        return None
    key = server.tls_key.absolute() if server.tls_key else None
    return Certificate(server.tls_cert.absolute(), key)  # messages say which file was looked at


def _loaded(cert: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    for path, name in ((cert, "tls_cert"), (key, "tls_key")):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"server.{name}: cannot read {path}: {error.strerror}") from None
    try:
        context.load_cert_chain(cert, key, _no_passphrase)
    except ssl.SSLError as error:
        where = f"{cert} and {key}" if key else str(cert)
        if error.reason == "KEY_VALUES_MISMATCH":
            what = "the key is that of another certificate"
        else:
            what = f"expected a certificate and its key without a passphrase, as PEM ({error})"
        raise ConfigError(f"server.tls_cert, server.tls_key: {where}: {what}") from None
    return context


def _no_passphrase() -> bytes:
    """Asked for by a key that has one: nobody is there to type it."""
    return b""
