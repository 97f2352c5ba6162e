"""A network of its own, in which every address of the world is this machine: who connects to whom is seen. Needs namespaces.

    unshare --net --mount python -m tests.cut_off FOLDER     (as root, or with --map-root-user)

Any connection to any IPv4 or IPv6 address arrives at listeners here, which write down the address that was meant; names are
answered by a server here. One ingest reads results whose URLs try to lead it inside. Prints a line of JSON: the URLs that
were to be refused and those that were not, the addresses that were connected to, what was acknowledged.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ricloud_connector import fetch as fetch_module
from tests.hostile_server import HostileServer, Steps, reply
from tests.scripted import SIGNATURE, Call, Script, rows_of, run
from tests.test_location import INSIDE

PORTS = (80, 443, 8443, 6379, 11211, 9000)
PUBLIC, DEAD_PORT = "8.8.8.8", 7

# What names resolve to, one answer after the other and then again from the first.
NAMES: dict[str, Sequence[Sequence[str]]] = {
    "public.test": [[PUBLIC]],
    "private.test": [["10.0.0.1"]],
    "loopback.test": [["127.0.0.1"]],
    "any.test": [["0.0.0.0"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "link-local.test": [["169.254.170.2"]],
    "shared.test": [["100.64.0.1"]],
    "v6.test": [["::1"]],
    "v6-any.test": [["::"]],
    "v6-metadata.test": [["fd00:ec2::254"]],
    "v6-mapped.test": [["::ffff:127.0.0.1"]],
    "v6-nat64.test": [["64:ff9b::a9fe:a9fe"]],
    "v6-6to4.test": [["2002:7f00:1::1"]],
    "second-is-private.test": [[PUBLIC, "127.0.0.1"]],
    "rebinding.test": [[PUBLIC], ["127.0.0.1"]],
    "rebinding-at-once.test": [["169.254.169.254"], [PUBLIC]],
    "rebinding-to-v6.test": [[PUBLIC], ["::1"], [PUBLIC], ["fd00:ec2::254"]],
}


def own_the_world() -> None:
    """Bring up the loopback device and make it the home of every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            # RTM_NEWROUTE, create and acknowledge: everything (/0) is local, in the local table, by device 1.
            route = struct.pack("BBBBBBBBI", family, 0, 0, 0, 255, 3, 254, 2, 0) + struct.pack("HHi", 8, 4, 1)
            netlink.send(struct.pack("IHHII", 16 + len(route), 24, 0x405, 1, 0) + route)
            (error,) = struct.unpack_from("i", netlink.recv(4096), 16)
            assert error == 0, f"netlink answers {error}"


class World:
    """Listeners at every address, and the server of names."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.asked: Counter[str] = Counter()
        for port in PORTS:
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._run(lambda listener=listener: self._accept(listener))
        self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._names.bind(("127.0.0.1", 53))
        self._run(self._resolve)

    def _run(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            self.connected.append(connection.getsockname()[0].removeprefix("::ffff:"))
            connection.close()

    def _resolve(self) -> None:
        while True:
            query, client = self._names.recvfrom(4096)
            labels, place = [], 12
            while query[place]:
                labels.append(query[place + 1 : place + 1 + query[place]].decode())
                place += 1 + query[place]
            (kind,) = struct.unpack_from(">H", query, place + 1)
            name = ".".join(labels).lower()
            self.asked[f"{name} {kind}"] += 1
            answers = NAMES.get(name, [])
            found = answers[(self.asked[f"{name} {kind}"] - 1) % len(answers)] if answers else []
            family = socket.AF_INET6 if kind == 28 else socket.AF_INET
            addresses = [socket.inet_pton(family, one) for one in found if (":" in one) == (kind == 28)]
            records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(one)) + one for one in addresses)
            flags = 0x8180 if answers else 0x8183
            header = query[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
            self._names.sendto(header + query[12 : place + 5] + records, client)


def named(url: str) -> list[Sequence[Sequence[str]]]:
    """The answers for the name in a URL, if it is one of ours."""
    return [answers for name, answers in NAMES.items() if url.startswith(f"https://{name}:")]


def main(folder: Path) -> None:
    own_the_world()
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", folder / "resolv.conf", Path("/etc/resolv.conf").resolve()], check=True)
    fetch_module.FIRST_PAUSE_S = 0.01
    world = World()
    urls = [*INSIDE, *(f"https://{name}:{port}/key" for name in NAMES for port in (*PORTS[1:], DEAD_PORT))]
    with Script({"good": b"good"}) as script, HostileServer(reply(200)) as other:
        template = script.items["good"]
        chains = {f"/hop{n}": f"{script.bucket.url}/hop{n + 1}" for n in range(2)}
        for number, url in enumerate(urls):
            marked = url + ("&" if "?" in url else "?") + SIGNATURE
            for kind, signed in (("direct", marked), ("redirected", f"{script.bucket.url}/to/{number}?{SIGNATURE}")):
                name = f"{kind} {number}"
                script.items[name] = {**template, "id": name, "signed_url": {"url": signed, "date_expires": None}}
        for number, url in enumerate((f"http://{other.host}/", "https://127.0.0.1/", "http://169.254.169.254/")):
            chains[f"/hop2?{number}"] = url
            name = f"chained {number}"
            script.items[name] = {**template, "id": name, "signed_url": {"url": f"{script.bucket.url}/hop0?{number}"}}

        def lead(call: Call) -> Steps | None:
            path, _, query = call.request.target.partition("?")
            if path.startswith("/to/") and path[4:].isdigit():
                return reply(302, {"Location": urls[int(path[4:])].encode("utf-8").decode("latin-1")})
            if path.startswith("/hop"):
                following = chains.get(path) or chains[f"{path}?{query}"]
                return reply(307, {"Location": f"{following}?{query}"})
            return None

        script.twist(lead)
        run(script, folder / "lake")
        reasons = {row["result_id"]: row["reason"] for row in rows_of(folder / "lake", "quarantine")}
        # Where one of a name's addresses is public, that one may be connected to; every other URL is to be refused outright.
        refused = [n for n, url in enumerate(urls) if not any([PUBLIC] in found or PUBLIC in found[0] for found in named(url))]
        said = {
            "urls": len(urls),
            "refused": len(refused),
            "not_refused": [urls[n] for n in refused if reasons.get(f"direct {n}") != "forbidden_url"],
            "connected": Counter(world.connected),
            "reached": other.connections,
            "unforeseen": sorted(set(reasons.values()) - {"forbidden_url", "redirected", "gone"}),
            "acknowledged": script.acknowledged,
            "names": sorted({name.partition(" ")[0] for name in world.asked}),
        }
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
