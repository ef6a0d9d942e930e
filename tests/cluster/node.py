"""A node: containerd, kubelet and kube-proxy on a machine of its own, and what befalls nodes.

What each setting beyond the obvious is for stands beside it. It knows its number; the rest of the cluster it knows by
the control plane it registers with.
"""

import json
import os
import socket
import time
from pathlib import Path

import yaml

from . import cgroups, network, programs
from .control import ControlPlane
from .machine import Machine
from .waiting import until

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE nobody may lower a score, and every pod would fail for its pause container's.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""
# What kubelet would otherwise set for the whole machine: it finds it set, in a file of the node's own.
SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}
STARTTIME = 19
"""The field of /proc/PID/stat, of those behind the name, that says when a process began, in ticks since the machine did."""
PAUSE_IMAGE = "localhost/pause:1"


class Node:
    """Node number N of a cluster, in a folder beside the control plane's."""

    def __init__(self, number: int, folder: Path, control: ControlPlane) -> None:
        self.number = number
        self.folder = folder
        self.control = control
        self.machine = Machine(f"node{number}", folder)
        self.name = self.machine.name
        self.address = network.node_address(number)

    def start(self) -> None:
        """Start it; it registers itself, and is Ready a few seconds later."""
        hosts = f"127.0.0.1 localhost\n{self.address} {self.name}\n"
        self.machine.boot(programs.program("pause"), hosts, f"nameserver {network.CONTROL}\n", self.control.lifeline)
        network.lay_cable(self.control.machine, self.machine, self.number)
        self._hide_sysctls()
        self._start_containerd()
        self._start_kubelet()
        self._start_proxy()

    def kill(self) -> None:
        """Every process on it ends at once; the API server hears of it by its silence."""
        self.machine.kill()

    def cut(self, direction: network.Direction, only_new: bool = False) -> None:
        """Cut it off, or new connections only; what runs on it runs on."""
        network.cut(self.control.machine, self.machine, direction, only_new)

    def heal(self, direction: network.Direction, only_new: bool = False) -> None:
        """Undo the cut."""
        network.heal(self.control.machine, self.machine, direction, only_new)

    def import_image(self, archive: Path) -> None:
        """Give the node an image, from an archive in OCI form."""
        self.ctr("images", "import", str(archive))

    def pause(self, container: str) -> None:
        """Freeze every process of a container, by its id: it neither runs nor ends until it is resumed."""
        self.ctr("tasks", "pause", container)

    def resume(self, container: str) -> None:
        """Let it run again."""
        self.ctr("tasks", "resume", container)

    def began(self, container: str) -> float:
        """When the first process of a container began, in seconds since 1970 by this machine's clock."""
        fields = self.machine.run("cat", f"/proc/{self._pid(container)}/stat").rpartition(")")[2].split()
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + int(fields[STARTTIME]) / os.sysconf("SC_CLK_TCK")

    def working_set(self, container: str) -> int:
        """The bytes of memory that a container needs."""
        return cgroups.working_set(self.machine.run("cat", f"/proc/{self._pid(container)}/cgroup"))

    def _pid(self, container: str) -> str:
        """As the node counts."""
        return next(line.split()[1] for line in self.ctr("tasks", "list").splitlines() if line.startswith(container))

    def ctr(self, *arguments: str) -> str:
        """containerd's own client, on this node."""
        return self.machine.run("ctr", "--namespace", "k8s.io", *arguments)

    def _hide_sysctls(self) -> None:
        for name, value in SYSCTLS.items():
            file = self.folder / name.replace("/", ".")
            file.write_text(value + "\n")
            self.machine.run("mount", "--bind", str(file), f"/proc/sys/{name}")

    def _start_containerd(self) -> None:
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "cni/10-pods.conflist").write_text(json.dumps(self._pod_network()))
        config = self.folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE))
        self.machine.start("containerd", "containerd", "--config", str(config))
        until(self._containerd_answers, 60, f"{self.name}: containerd answers")

    def _containerd_answers(self) -> bool:
        """A kubelet that finds nobody at its runtime's socket gives up for good."""
        with socket.socket(socket.AF_UNIX) as knocking:
            return knocking.connect_ex(f"/proc/{self.machine.pid}/root{CONTAINERD_SOCKET}") == 0

    def _pod_network(self) -> dict[str, object]:
        ranges = [[{"subnet": network.pods_of(self.number)}]]
        addresses = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": addresses}
        return {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
        }

    def _start_kubelet(self) -> None:
        config = self.folder / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._kubelet_settings()))
        options: dict[str, object] = {
            "config": config,
            "kubeconfig": self.control.kubeconfig(self.name, f"system:node:{self.name}", ("system:nodes",)),
            "hostname-override": self.name,
            "node-ip": self.address,
        }
        # On the disk, under the name that is short enough for the sockets in it.
        self.machine.show(self.folder / "kubelet", "/var/lib/kubelet")
        self.control.start_kubernetes(self.machine, "kubelet", options)

    def _kubelet_settings(self) -> dict[str, object]:
        authority = self.control.authority
        certificate, key = authority.issue(f"{self.name}-server", self.name, hosts=(self.address, self.name))
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            # Two kubelets in one group delete each other's pods.
            "cgroupRoot": f"/{self.machine.cgroup}",
            "failCgroupV1": False,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "maxOpenFiles": 20000,  # it fails where it may not raise the limit to its default
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "clusterDNS": [network.CONTROL],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.folder / "etc/resolv.conf"),
            # The machine's disk and memory are not the node's own: it must not evict for what others use.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "1s",
            "volumePluginDir": str(self.folder / "plugins"),
        }

    def _start_proxy(self) -> None:
        options: dict[str, object] = {
            "kubeconfig": self.control.kubeconfig(f"{self.name}-proxy", "system:kube-proxy"),
            "proxy-mode": "iptables",
            "cluster-cidr": network.PODS,
            "hostname-override": self.name,
            # These are the whole machine's; in a network of one's own they cannot be written.
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-established": 0,
            "conntrack-tcp-timeout-close-wait": 0,
        }
        self.control.start_kubernetes(self.machine, "kube-proxy", options)
