"""Certificates of a small authority of our own, made with the `openssl` program."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

__all__ = ["Authority"]

_CONFIG = """
[req]
distinguished_name = name
[name]
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
"""
_EVER = ("20200101000000Z", "20990101000000Z")


class Authority:
    """Signs certificates in `folder`; `file` is what clients have to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "authority.pem"
        (folder / "config").write_text(_CONFIG.format(folder=folder))
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        self._new_key("authority", "Test Authority", "-x509", "-extensions", "authority")

    def certify(self, host: str, dates: tuple[str, str] = _EVER) -> ssl.SSLContext:
        """For a server: a certificate of this host, valid between these dates."""
        name = f"{host}.{dates[1]}"
        self._new_key(name, host)
        extensions = self._folder / f"{name}.extensions"
        extensions.write_text(f"subjectAltName = DNS:{host}\n")
        times = ("-startdate", dates[0], "-enddate", dates[1], "-extfile", str(extensions))
        signer = ("-cert", str(self.file), "-keyfile", str(self._folder / "authority.key"))
        files = ("-in", str(self._folder / f"{name}.pem"), "-out", str(self._folder / "signed"))
        self._openssl("ca", "-batch", "-notext", *times, *signer, *files)
        (self._folder / "signed").replace(self._folder / f"{name}.pem")
        return self._server(name)

    def self_signed(self, host: str) -> ssl.SSLContext:
        """For a server: a certificate that nobody vouches for."""
        self._new_key("self-signed", host, "-x509", "-addext", f"subjectAltName=DNS:{host}")
        return self._server("self-signed")

    def client(self) -> ssl.SSLContext:
        """Trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.file))

    def _server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        return context

    def _new_key(self, name: str, subject: str, *options: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        files = ("-keyout", str(self._folder / f"{name}.key"), "-out", f"{self._folder}/{name}.pem")
        self._openssl("req", "-new", *key, *files, "-subj", f"/CN={subject}", *options)

    def _openssl(self, command: str, *arguments: str) -> None:
        config = ("-config", str(self._folder / "config"))
        done = subprocess.run(
            ["openssl", command, *config, *arguments], capture_output=True, check=False, text=True
        )
        assert done.returncode == 0, done.stderr
