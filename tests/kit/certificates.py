"""Certificates for tests: an authority, and keys signed by it, as PEM files made by openssl."""

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

CURVE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _run(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (Debian package openssl)")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """Signs keys; `certificate` is what others trust."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = directory / f"{name}.key"
        self.certificate = directory / f"{name}.pem"
        _run("genpkey", *CURVE, "-out", str(self._key))
        subject = ("-subj", f"/CN={name}", "-days", "2")
        extension = ("-addext", "basicConstraints=critical,CA:TRUE")
        files = ("-key", str(self._key), "-out", str(self.certificate))
        _run("req", "-x509", "-new", *files, *subject, *extension)

    @functools.cache  # noqa: B019 - lives as long as the test
    def issue(self, name: str, addresses: str = "IP:127.0.0.1,DNS:localhost") -> Path:
        """A file with a key and its certificate, for a server at `addresses` or a client."""
        base = self._directory / name
        key, request, signed = (base.with_suffix(s) for s in (".key", ".csr", ".crt"))
        _run("genpkey", *CURVE, "-out", str(key))
        _run("req", "-new", "-key", str(key), "-out", str(request), "-subj", f"/CN={name}")
        extensions = base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={addresses}\n")
        _run(
            *("x509", "-req", "-in", str(request), "-out", str(signed), "-days", "2"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-extfile", str(extensions)),
        )
        both = base.with_suffix(".pem")
        both.write_text(key.read_text() + signed.read_text())
        return both
