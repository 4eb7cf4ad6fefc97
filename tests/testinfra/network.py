"""Connections between the pods of a kind cluster, tried from where the pods are: in their network namespaces, which a
node enters. So nothing has to be in their images, and what is tried goes through the same interface and policies.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .pods import kubectl

LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp

_SOCKETS = r"""
for space in /run/netns/*; do
    address=$(ip -netns "${space##*/}" -4 -oneline address show scope global | sed -n 's|.* inet \([0-9.]*\)/.*|\1|p')
    echo "space $space $address"
    nsenter --net="$space" cat /proc/self/net/tcp /proc/self/net/tcp6
done
"""

# Opens a connection to each ADDRESS:PORT, all at once, and prints those that opened. It sends nothing.
_CONNECT = r"""
use strict; use Socket; use Fcntl;
my ($seconds, @targets) = @ARGV;
my %open;
for my $target (@targets) {
    my ($address, $port) = split /:/, $target;
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die $!;
    fcntl($socket, F_SETFL, O_NONBLOCK) or die $!;
    connect($socket, pack_sockaddr_in($port, inet_aton($address)));
    $open{fileno $socket} = [$socket, $target];
}
my $end = time + $seconds;
while (%open && time <= $end) {
    my $ready = "";
    vec($ready, $_, 1) = 1 for keys %open;
    select(undef, $ready, undef, 0.2);
    for (grep { vec($ready, $_, 1) } keys %open) {
        my ($socket, $target) = @{delete $open{$_}};
        print "$target\n" if unpack("i", getsockopt($socket, SOL_SOCKET, SO_ERROR)) == 0;
    }
}
"""


@dataclass(frozen=True)
class Pod:
    """A pod that has a network of its own. ``ports`` are those it listens on, for others than itself."""

    namespace: str
    app: str
    name: str
    node: str
    address: str
    space: str
    ports: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods() -> list[Pod]:
    """All that are ready, of the whole cluster."""
    found = json.loads(kubectl("get", "pods", "--all-namespaces", "-o", "json"))["items"]
    ready = [
        pod
        for pod in found
        if not pod["spec"].get("hostNetwork")
        and not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]
    spaces = _on_each({pod["spec"]["nodeName"]: _SOCKETS for pod in ready}, _sockets)
    result = []
    for pod in ready:
        labels, address = pod["metadata"].get("labels") or {}, pod["status"]["podIP"]
        space, ports = spaces[pod["spec"]["nodeName"]].get(address, ("", ()))
        assert space, f"{pod['metadata']['name']} ({address}) has no network namespace in {pod['spec']['nodeName']}"
        app = labels.get("app.kubernetes.io/name") or labels.get("k8s-app") or ""
        names = (pod["metadata"]["namespace"], app, pod["metadata"]["name"], pod["spec"]["nodeName"])
        result.append(Pod(*names, address, space, ports))
    return result


def opened(wanted: Iterable[tuple[Pod, str]], seconds: int = 3) -> set[tuple[Pod, str]]:
    """Of pairs of a pod and an ADDRESS:PORT, those that a connection opens between. One process a pod, all at once."""
    targets: dict[Pod, list[str]] = {}
    for pod, target in wanted:
        targets.setdefault(pod, []).append(target)
    scripts: dict[str, list[str]] = {}
    for pod, addresses in targets.items():
        command = f"nsenter --net={pod.space} perl -e {shlex.quote(_CONNECT)} {seconds} {' '.join(addresses)}"
        scripts.setdefault(pod.node, []).append(f"({command} | sed 's|^|{pod.address} |') &")
    answers = _on_each({node: "\n".join([*lines, "wait"]) for node, lines in scripts.items()}, str.splitlines)
    by_address = {pod.address: pod for pod in targets}
    return {(by_address[source], target) for lines in answers.values() for source, target in map(str.split, lines)}


def _on_each(scripts: dict[str, str], parse):
    """What each node's script printed, parsed."""
    with ThreadPoolExecutor(max_workers=len(scripts) or 1) as pool:
        return dict(zip(scripts, pool.map(lambda node: parse(_in_node(node, scripts[node])), scripts), strict=True))


def _in_node(node: str, script: str) -> str:
    command = ["docker", "exec", "--interactive", node, "bash", "-s"]
    ran = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{node}: {ran.stderr}"
    assert not ran.stderr, f"{node}: {ran.stderr}"
    return ran.stdout


def _sockets(printed: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The network namespace and the listening ports of each address of a node."""
    found: dict[str, tuple[str, set[int]]] = {}
    ports: set[int] = set()
    for line in printed.splitlines():
        words = line.split()
        if words[0] == "space":
            ports = set()
            if len(words) == 3:  # one without an address is being made or taken away
                found[words[2]] = (words[1], ports)
        elif words[0] != "sl" and words[3] == LISTENS:
            address, port = words[1].split(":")
            if not _address(address).is_loopback:
                ports.add(int(port, 16))
    return {address: (space, tuple(sorted(ports))) for address, (space, ports) in found.items()}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of /proc/net/tcp and tcp6: words of 32 bits, each in the byte order of the machine (little-endian)."""
    words = bytes.fromhex(text)
    address = ipaddress.ip_address(b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4)))
    return getattr(address, "ipv4_mapped", None) or address
