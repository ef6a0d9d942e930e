"""The programs of a cluster: built from Go modules at the versions of go/go.mod, or Debian's packages.

One module for all that a cluster needs, so that they share what they depend on and its build. Modules of their own have
Prometheus, which is built without the ways to find targets that are not Kubernetes', and Helm 4, which wants a newer
Kubernetes' code than the cluster's. It knows how to build and where the results are; what they are called with is said
where they are started.
"""

import os
import subprocess
from functools import cache as once
from pathlib import Path

from . import cache

SOURCES = Path(__file__).parent / "go"
KUBERNETES = "1.34.4"
VERSION = "k8s.io/component-base/version"
LINK = f"-s -w -X {VERSION}.gitVersion=v{KUBERNETES} -X {VERSION}.gitMajor=1 -X {VERSION}.gitMinor=34"
PACKAGES = {
    "pause": "./pause",
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kube": ".",
}
PROMETHEUS_TAGS = "remove_all_sd,enable_kubernetes_sd"
# A program, the folder of its module beside this file, its package, and the build's tags.
APART = {
    "promtool": ("prometheus", "github.com/prometheus/prometheus/cmd/promtool", PROMETHEUS_TAGS),
    "prometheus": ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", PROMETHEUS_TAGS),
    "helm4": ("helm4", "helm.sh/helm/v4/cmd/helm", ""),
}
# Debian's package and a file of it that we run.
DEBIAN = {
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "conntrack": "/usr/sbin/conntrack",
    "iproute2": "/usr/sbin/ip",
    "openssl": "/usr/bin/openssl",
    "buildah": "/usr/bin/buildah",
    "mmdebstrap": "/usr/bin/mmdebstrap",
}
# While this file is there, and says 101, Debian starts no service that it installs.
NO_SERVICES = "/usr/sbin/policy-rc.d"


def build() -> None:
    """Make what is missing, one after the other, saying so."""
    install(missing())
    for name in PACKAGES:
        program(name, build=True)
    for name in APART:
        apart(name)


def program(name: str, build: bool = False) -> Path:
    """Where a program of ours is; FileNotFoundError if it is not built."""
    sources = (_module(), PACKAGES[name], LINK)
    return cache.entry(name, sources, lambda path: _compile(name, path, SOURCES, PACKAGES[name]), build=build)


def apart(name: str) -> Path:
    """Where a program with a module of its own is; built if it is not there, for it takes a minute and no cluster."""
    folder, package, tags = APART[name]
    module = Path(__file__).parent / folder
    files = [path for path in sorted(module.rglob("*")) if path.is_file()]
    return cache.entry(name, (files, package, tags), lambda path: _compile(name, path, module, package, "-tags", tags))


def link(folder: Path) -> None:
    """A folder with the commands that a person uses, for the PATH."""
    folder.mkdir(parents=True)
    (folder / "kubectl").symlink_to(program("kube"))
    (folder / "helm").symlink_to(program("helm"))
    (folder / "helm4").symlink_to(apart("helm4"))


def built() -> bool:
    """Whether every program of ours is there."""
    try:
        return all(program(name) for name in PACKAGES)
    except FileNotFoundError:
        return False


def missing() -> list[str]:
    """Debian's packages that are not here."""
    return [package for package, file in DEBIAN.items() if not Path(file).exists()]


def install(packages: list[str]) -> None:
    """Install Debian packages, without starting any service."""
    if not packages:
        return
    print(f"cluster: installing {', '.join(packages)} by apt", flush=True)
    script = """
        export DEBIAN_FRONTEND=noninteractive
        if [ ! -e "$0" ]; then trap 'rm "$0"' EXIT; printf '#!/bin/sh\\nexit 101\\n' > "$0"; chmod +x "$0"; fi
        apt-get -qq update
        apt-get -qq -y install --no-install-recommends "$@" >/dev/null
    """
    subprocess.run(["sh", "-ec", script, NO_SERVICES, *packages], check=True, stdin=subprocess.DEVNULL)


@once
def _module() -> list[Path]:
    return [path for path in sorted(SOURCES.rglob("*")) if path.is_file()]


def _compile(name: str, path: Path, module: Path, package: str, *options: str) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false -p=2"}
    command = ["nice", "-n", "15", "go", "build", "-v", "-ldflags", LINK, *options, "-o", str(path), package]
    with subprocess.Popen(command, cwd=module, env=environment, stderr=subprocess.PIPE, text=True) as build:
        said = _report(name, build)
    if build.returncode != 0:
        raise RuntimeError(f"{name} was not built:\n" + "\n".join(said[-20:]))


def _report(name: str, build: "subprocess.Popen[str]") -> list[str]:
    """Say how far it is, a line for each hundred packages fetched or compiled; what the compiler said comes back."""
    said = []
    for line in build.stderr or ():
        said.append(line.rstrip())
        if len(said) % 100 == 0:
            print(f"cluster: {name}: {len(said)} steps, now {said[-1]}", flush=True)
    return said
