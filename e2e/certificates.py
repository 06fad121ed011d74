"""An authority of the tests, and certificates that it signs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """`certificate` signed `server`, whose key is `key`: a server on this machine."""

    certificate: Path
    server: Path
    key: Path


def authority(folder: Path) -> Authority:
    """A new one, with its files in this folder."""
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    made = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=an authority", "-days", "2")
    _openssl(folder, "req", "-x509", *NEW_KEY, *made)
    _openssl(folder, "req", *NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed)
    return Authority(folder / "ca.crt", folder / "server.crt", folder / "server.key")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
