"""`host:port`, as party.toml gives it."""

import ipaddress
from typing import NamedTuple

from parties.errors import ConfigError


class Address(NamedTuple):
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Raises ConfigError. An IPv6 address stands in brackets: `[::1]:50051`."""
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ConfigError(f'{text!r}: is no address; write host:port, such as "127.0.0.1:50051"')
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Can only this machine reach it? A name other than localhost could be anywhere."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
