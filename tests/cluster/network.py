"""Addresses, cables between machines, and how to cut them; sockets in a machine's network for those outside it.

Nothing of it leaves the machines: none has a way out, and the network of the machine that we are on stays as it is.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from .machine import Machine

CONTROL = "10.87.0.1"  # etcd, the API server, DNS and the database are there
SERVICES = "10.96.0.0/16"
PODS = "10.88.0.0/16"
API_SERVICE = "10.96.0.1"
API, DATABASE = 6443, 5432
PROXIES = range(7000, 7100)  # where proxies in front of the API server listen
BRIDGE, BRIDGE_ADDRESS = "cables", "02:00:0a:57:00:01"


class Direction(Enum):
    """What of a node can be cut off: all of it, its way to the API server, or its way to the database."""

    CABLE = "cable"
    API = f"{API},{PROXIES[0]}:{PROXIES[-1]}"
    DATABASE = f"{DATABASE}"


def node_address(number: int) -> str:
    return f"10.87.0.{10 + number}"


def pods_of(number: int) -> str:
    return f"10.88.{number}.0/24"


def lay_bridge(control: Machine) -> None:
    """The control machine's end of all cables; it is the router between the nodes' pods, too.

    Its hardware address is its own: one that it was not given is the lowest of its cables', so that with a node that comes or
    goes the others would lose their way to it, until they ask for it again.
    """
    script = f"""
        ip link add {BRIDGE} address {BRIDGE_ADDRESS} type bridge
        ip address add {CONTROL}/24 dev {BRIDGE}
        ip link set {BRIDGE} up
        ip route add unreachable default
        echo 1 > /proc/sys/net/ipv4/ip_forward
    """
    control.run("sh", "-ec", script)


def lay_cable(control: Machine, node: Machine, number: int) -> None:
    """A cable from a node to the control machine, and the routes at both ends; a node that was killed gets a new one."""
    ends = ("eth0", "netns", str(node.pid), "type", "veth", "peer", "name", node.name, "netns", str(control.pid))
    _ip("link", "add", *ends)
    control.run("ip", "link", "set", node.name, "master", BRIDGE, "up")
    control.run("ip", "route", "replace", pods_of(number), "via", node_address(number))
    # Service addresses are nobody's: without a route the node's own packets to them would not get as far as kube-proxy's rules.
    script = f"""
        ip address add {node_address(number)}/24 dev eth0
        ip link set eth0 up
        ip route add {SERVICES} dev eth0
        ip route add {PODS} via {CONTROL}
        ip route add unreachable default
        echo 1 > /proc/sys/net/ipv4/ip_forward
    """
    node.run("sh", "-ec", script)


def cut(control: Machine, node: Machine, direction: Direction, only_new: bool = False) -> None:
    """Packets are lost, silently, both ways: connections that are open hang, as they do when a switch dies.

    `only_new`: those that are open go on, and no other can be made; not for a whole cable.
    """
    if direction is Direction.CABLE:
        control.run("ip", "link", "set", node.name, "down")
    else:
        node.run("sh", "-ec", "\n".join(_rules("-I", direction, only_new)))


def heal(control: Machine, node: Machine, direction: Direction, only_new: bool = False) -> None:
    """Undo the cut."""
    if direction is Direction.CABLE:
        control.run("ip", "link", "set", node.name, "up")
    else:
        node.run("sh", "-ec", "\n".join(_rules("-D", direction, only_new)))


def listen(machine: Machine, address: str, ports: Iterable[int]) -> socket.socket:
    """A listening socket in the machine's network, on the first port that is free, served by us who are outside of it."""
    # A socket stays in the network that its thread was in when it was made; the thread is made for this and goes.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_listen_inside, machine.pid, address, ports).result()


def _listen_inside(pid: int, address: str, ports: Iterable[int]) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(namespace, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(namespace)
    for port in ports:
        with contextlib.suppress(OSError):
            return socket.create_server((address, port), backlog=512)
    raise OSError(f"no port of {ports} is free at {address}")


def _rules(verb: str, direction: Direction, only_new: bool) -> list[str]:
    which = "-p tcp --syn" if only_new else "-p tcp"

    def rule(chain: str, way: str) -> str:
        end = "-s" if way == "sports" else "-d"
        return f"iptables -w {verb} {chain} {end} {CONTROL} {which} -m multiport --{way} {direction.value} -j DROP"

    return [rule("OUTPUT", "dports"), rule("INPUT", "sports"), rule("FORWARD", "dports"), rule("FORWARD", "sports")]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
