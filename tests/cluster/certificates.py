"""The cluster's own certificate authority: who one is here is what its certificate says.

A user's name is the certificate's common name, its groups are the organisations, as Kubernetes reads them. The keys
are in one folder, for a test cluster has no secrets. A kubeconfig carries its certificates in itself.
"""

import base64
import subprocess
from pathlib import Path

import yaml

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "30")
NO_DEFAULTS = "[req]\ndistinguished_name = subject\n[subject]\n"


class Authority:
    """The authority whose files are in `folder`; it makes its own certificate when it has none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key = folder / "ca.crt", folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.certificate.exists():
            extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
            self._request("ca", "/CN=cluster", *extensions)

    def issue(self, name: str, user: str, groups: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """A certificate and its key, for a client and for a server at these addresses or names; made once."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if not certificate.exists():
            subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
            names = ",".join(f"IP:{host}" if host[0].isdigit() else f"DNS:{host}" for host in hosts)
            extensions = ["extendedKeyUsage=serverAuth,clientAuth", *([f"subjectAltName={names}"] if names else [])]
            self._request(name, subject, *extensions, authority=("-CA", str(self.certificate), "-CAkey", str(self.key)))
        return certificate, key

    def signing_key(self) -> tuple[Path, Path]:
        """The pair that signs and checks service accounts' tokens."""
        private, public = self.folder / "sa.key", self.folder / "sa.pub"
        if not private.exists():
            _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(private))
            _openssl("pkey", "-in", str(private), "-pubout", "-out", str(public))
        return private, public

    def kubeconfig(self, path: Path, server: str, user: str, groups: tuple[str, ...] = ()) -> Path:
        """Write a kubeconfig for a user of that name in these groups."""
        certificate, key = self.issue("-".join(("client", user, *groups)), user, groups)
        credentials = {"client-certificate-data": _inline(certificate), "client-key-data": _inline(key)}
        cluster = {"server": server, "certificate-authority-data": _inline(self.certificate)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
            "current-context": "cluster",
        }
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def _request(self, name: str, subject: str, *extensions: str, authority: tuple[str, ...] = ()) -> None:
        files = ("-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.crt"))
        added = [part for extension in extensions for part in ("-addext", extension)]
        _openssl("req", "-x509", "-config", "/dev/stdin", *KEY, *authority, "-subj", subject, *files, *added)


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], input=NO_DEFAULTS, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")
