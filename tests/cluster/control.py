"""The control machine: etcd, the API server, the controllers, the scheduler and the cluster's DNS, and the way to them.

It is no node: no pod runs here, so killing a node never takes the control plane along. The API server listens inside;
a relay serves it, and whatever else is asked for, on a loopback port of the machine we are on.
"""

import socket
import sys
from pathlib import Path

from . import network, programs
from .certificates import Authority
from .machine import Machine
from .waiting import until

INSIDE = f"https://{network.CONTROL}:{network.API}"
ETCD = "http://127.0.0.1:2379"
MASTERS = ("system:masters",)
HOSTS = f"127.0.0.1 localhost\n{network.CONTROL} control\n"


class ControlPlane:
    """The control plane whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lifeline: int | None = None  # as machine.py has it
        self.machine = Machine("control", folder)
        self.certificates = folder / "certificates"

    def start(self) -> None:
        """Start all of it; return when the API server is ready."""
        self.machine.boot(programs.program("pause"), HOSTS, "", self.lifeline)
        network.lay_bridge(self.machine)
        self.authority = Authority(self.certificates)
        self._start_etcd()
        self._start_api_server()
        self.wait_until_ready()
        self._start_controllers()
        self._start_dns()

    def kubeconfig(self, name: str, user: str, groups: tuple[str, ...] = (), server: str = INSIDE) -> Path:
        """A kubeconfig in the cluster's folder, by default for use inside of it."""
        return self.authority.kubeconfig(self.folder / f"{name}.kubeconfig", server, user, groups)

    def relay(self, name: str, port: int) -> int:
        """Serve a port of the control machine on a loopback port of ours; return that."""
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            script = Path(__file__).with_name("relay.py")
            command = (sys.executable, "-I", str(script), str(listener.fileno()), network.CONTROL, str(port))
            self.machine.start(f"relay-{name}", *command, descriptors=[listener.fileno()])
            outside: int = listener.getsockname()[1]
            return outside

    def wait_until_ready(self) -> None:
        """Return when the API server says that it is ready."""
        until(self._is_ready, 60, "the API server is ready")

    def bring_back(self) -> None:
        """Start the API server again, and the controllers anew, which may wait for a minute before they ask it again."""
        self.machine.restart("kube-apiserver")
        self.wait_until_ready()
        self.machine.stop("kube-controller-manager")
        self.machine.restart("kube-controller-manager")

    def _is_ready(self) -> bool:
        kubectl = (str(programs.program("kube")), "kubectl", "--kubeconfig", str(self._admin()))
        try:
            return self.machine.run(*kubectl, "get", "--raw", "/readyz") == "ok"
        except RuntimeError:
            return False

    def _admin(self) -> Path:
        return self.kubeconfig("inside", "admin", MASTERS)

    def _start_etcd(self) -> None:
        peer = "http://127.0.0.1:2380"
        options = {
            "name": "control",
            "data-dir": self.folder / "etcd",
            "listen-client-urls": ETCD,
            "advertise-client-urls": ETCD,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"control={peer}",
            "unsafe-no-fsync": "true",
        }
        self.machine.start("etcd", str(programs.program("etcd")), *flags(options))

    def _start_api_server(self) -> None:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        hosts = (network.CONTROL, "127.0.0.1", network.API_SERVICE, "localhost", *names)
        certificate, key = self.authority.issue("api-server", "kube-apiserver", hosts=hosts)
        to_kubelet, to_kubelet_key = self.authority.issue("api-server-to-kubelet", "kube-apiserver-kubelet-client", MASTERS)
        signing, checking = self.authority.signing_key()
        options = {
            "etcd-servers": ETCD,
            "bind-address": network.CONTROL,
            "advertise-address": network.CONTROL,
            "secure-port": network.API,
            "service-cluster-ip-range": network.SERVICES,
            "tls-cert-file": certificate,
            "tls-private-key-file": key,
            "client-ca-file": self.authority.certificate,
            "service-account-key-file": checking,
            "service-account-signing-key-file": signing,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "authorization-mode": "Node,RBAC",
            "kubelet-client-certificate": to_kubelet,
            "kubelet-client-key": to_kubelet_key,
            "kubelet-certificate-authority": self.authority.certificate,
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": "true",
        }
        self.start_kubernetes(self.machine, "kube-apiserver", options)

    def _start_controllers(self) -> None:
        signing, _ = self.authority.signing_key()
        options = {
            "kubeconfig": self.kubeconfig("controllers", "system:kube-controller-manager"),
            "service-account-private-key-file": signing,
            "root-ca-file": self.authority.certificate,
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            # A lost node is noticed in 10 s instead of 50: tests wait for it.
            "node-monitor-grace-period": "10s",
            "node-monitor-period": "1s",
        }
        self.start_kubernetes(self.machine, "kube-controller-manager", options)
        scheduler = {"kubeconfig": self.kubeconfig("scheduler", "system:kube-scheduler"), "leader-elect": "false"}
        self.start_kubernetes(self.machine, "kube-scheduler", scheduler)

    def _start_dns(self) -> None:
        corefile = self.folder / "Corefile"
        zones = f"kubernetes cluster.local in-addr.arpa {{\n kubeconfig {self._admin()} cluster\n pods insecure\n }}"
        corefile.write_text(f".:53 {{\n bind {network.CONTROL}\n errors\n {zones}\n}}\n")
        self.machine.start("coredns", str(programs.program("coredns")), "-conf", str(corefile))

    @staticmethod
    def start_kubernetes(machine: Machine, daemon: str, options: dict[str, object]) -> None:
        """Start a Kubernetes daemon on a machine."""
        machine.start(daemon, str(programs.program("kube")), daemon, *flags(options))


def flags(options: dict[str, object]) -> list[str]:
    """The options as a command line."""
    return [f"--{name}={value}" for name, value in options.items()]
