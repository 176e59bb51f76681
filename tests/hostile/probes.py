"""Every way to somebody else that a hostile agent has, tried one after another: `probes.py TARGETS` (JSON).

Prints one JSON object: probe → what was reached, or why not. Needs nothing but the standard library. A probe
reaches when it got what it must not get: the canary of a file, of a memory, of an environment, or an effect
on a process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.ptrace.restype = ctypes.c_long
libc.shmat.restype = ctypes.c_void_p
TARGETS = json.loads(sys.argv[1])
VICTIM, SERVER, GATEWAY = (TARGETS[name] for name in ("victim", "server", "gateway"))
CANARY = TARGETS["canary"].encode()
PROBES: dict[str, Callable[[], object]] = {}


def probe(function: Callable[[], object]) -> Callable[[], object]:
    PROBES[function.__name__] = function
    return function


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def holds(data: bytes) -> str:
    if CANARY not in data:
        raise LookupError("no canary")
    return "canary"


def checked(result: int) -> int:
    if result in (-1, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# -- other sessions ---------------------------------------------------------------------------------------


@probe
def file_of_another_home() -> object:
    return holds(read(TARGETS["home"] + "/secret"))


@probe
def writing_into_another_home() -> object:
    with open(TARGETS["home"] + "/planted", "w") as file:
        return file.write("planted")


@probe
def hard_link_to_anothers_file() -> object:
    os.link(TARGETS["home"] + "/secret", "stolen")
    return holds(read("stolen"))


@probe
def symbolic_link_to_anothers_file() -> object:
    os.symlink(TARGETS["home"] + "/secret", "link")
    return holds(read("link"))


@probe
def listing_the_sessions() -> object:
    found = os.listdir(os.path.dirname(os.path.dirname(TARGETS["home"])))
    return len(found) or holds(b"")


@probe
def environment_of_another() -> object:
    return holds(read(f"/proc/{VICTIM}/environ"))


@probe
def command_line_of_another() -> object:
    return holds(read(f"/proc/{VICTIM}/cmdline"))


@probe
def memory_of_another_through_proc() -> object:
    with open(f"/proc/{VICTIM}/mem", "rb", 0) as memory:
        memory.seek(TARGETS["address"])
        return holds(memory.read(len(CANARY)))


@probe
def memory_of_another_by_process_vm_readv() -> object:
    buffer = ctypes.create_string_buffer(len(CANARY))
    vector = struct.Struct("PN")
    local = vector.pack(ctypes.addressof(buffer), len(CANARY))
    remote = vector.pack(TARGETS["address"], len(CANARY))
    checked(libc.process_vm_readv(VICTIM, local, 1, remote, 1, 0))
    return holds(buffer.raw)


@probe
def tracing_another() -> object:
    checked(libc.ptrace(0x4206, ctypes.c_long(VICTIM), 0, 0))  # PTRACE_SEIZE
    return "seized"


@probe
def descriptors_of_another() -> object:
    paths = [os.readlink(f"/proc/{VICTIM}/fd/{fd}") for fd in os.listdir(f"/proc/{VICTIM}/fd")]
    return paths[0]


@probe
def opening_a_descriptor_of_another() -> object:
    return holds(read(f"/proc/{VICTIM}/fd/{TARGETS['descriptor']}"))


@probe
def taking_a_descriptor_of_another() -> object:
    pidfd = os.pidfd_open(VICTIM)
    fd = checked(libc.syscall(438, pidfd, TARGETS["descriptor"], 0))  # pidfd_getfd
    return holds(os.pread(fd, 4096, 0))


@probe
def working_directory_of_another() -> object:
    return holds(read(f"/proc/{VICTIM}/cwd/../home/secret"))


@probe
def root_directory_of_another() -> object:
    return holds(read(f"/proc/{VICTIM}/root{TARGETS['home']}/secret"))


@probe
def signalling_another() -> object:
    os.kill(VICTIM, signal.SIGCONT)
    return "signalled"


@probe
def descriptor_for_another() -> object:
    """With one, its end can be awaited, and other calls name it without its number being used again."""
    return os.pidfd_open(VICTIM)


@probe
def signalling_another_by_pidfd() -> object:
    signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGCONT)
    return "signalled"


@probe
def limiting_another() -> object:
    import resource

    return resource.prlimit(VICTIM, resource.RLIMIT_CORE, (0, 0))


@probe
def slowing_another() -> object:
    slower = min(19, os.getpriority(os.PRIO_PROCESS, VICTIM) + 1)  # nobody may make it faster
    os.setpriority(os.PRIO_PROCESS, VICTIM, slower)
    return "slowed"


@probe
def pinning_another() -> object:
    os.sched_setaffinity(VICTIM, os.sched_getaffinity(VICTIM))
    return "pinned"


@probe
def shared_memory_file_of_another() -> object:
    return holds(read(TARGETS["shared"]))


@probe
def temporary_file_of_another() -> object:
    return holds(read(TARGETS["temporary"]))


@probe
def system_v_memory_of_another() -> object:
    segment = checked(libc.shmget(TARGETS["segment"], 0, 0))
    address = libc.shmat(segment, None, 0o10000)  # SHM_RDONLY
    return holds(ctypes.string_at(checked(address), len(CANARY)))


@probe
def abstract_socket_of_another() -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + TARGETS["abstract"])
        return "connected"


# -- the gateway and the fork server ------------------------------------------------------------------------


@probe
def data_directory_of_the_gateway() -> object:
    return holds(read(TARGETS["data"] + "/database"))


@probe
def configuration_of_the_gateway() -> object:
    return holds(read(TARGETS["config"]))


@probe
def socket_of_the_gateway() -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(TARGETS["data"] + "/socket")
        return "connected"


@probe
def environment_of_the_gateway() -> object:
    return holds(read(f"/proc/{GATEWAY}/environ"))


@probe
def command_line_of_the_gateway() -> object:
    return holds(read(f"/proc/{GATEWAY}/cmdline"))


@probe
def signalling_the_gateway() -> object:
    os.kill(GATEWAY, signal.SIGCONT)
    return "signalled"


@probe
def signalling_the_fork_server() -> object:
    os.kill(SERVER, 0)
    return "signalled"


@probe
def memory_of_the_fork_server() -> object:
    with open(f"/proc/{SERVER}/maps") as maps, open(f"/proc/{SERVER}/mem", "rb", 0) as memory:
        memory.seek(int(maps.readline().partition("-")[0], 16))
        return len(memory.read(16))


@probe
def tracing_the_gateway() -> object:
    checked(libc.ptrace(0x4206, ctypes.c_long(GATEWAY), 0, 0))
    return "seized"


# -- the network --------------------------------------------------------------------------------------------


def fetched(sock: socket.socket) -> str:
    with sock:
        sock.settimeout(5)
        sock.sendall(b"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return holds(sock.recv(4096))


@probe
def port_of_the_gateway() -> object:
    return fetched(socket.create_connection(("127.0.0.1", TARGETS["port"]), 5))


@probe
def port_of_the_gateway_by_ipv6() -> object:
    return fetched(socket.create_connection(("::1", TARGETS["port"]), 5))


@probe
def port_of_the_gateway_from_a_grandchild() -> object:
    def detach() -> None:
        os.setsid()
        if os.fork():
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        port_of_the_gateway()

    return in_a_child(detach)


@probe
def port_of_the_gateway_by_a_socket_in_flight() -> object:
    client = socket.create_connection(("127.0.0.1", TARGETS["port"]), 5)
    ours, theirs = socket.socketpair()
    socket.send_fds(theirs, [b"."], [client.fileno()])
    client.close()
    return fetched(socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0]))


@probe
def a_route_off_the_host() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((TARGETS["far"], 9))
        if sock.getsockname()[0] == TARGETS["far"]:
            raise LookupError("an address of this network's own")
        return sock.getsockname()[0]


@probe
def a_listener_in_the_hosts_namespace() -> object:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cookie = int.from_bytes(listener.getsockopt(socket.SOL_SOCKET, 71, 8), "little")  # SO_NETNS_COOKIE
        if cookie != TARGETS["namespace"]:
            raise LookupError("another namespace")
        return listener.getsockname()


# -- the kernel ---------------------------------------------------------------------------------------------


def in_a_child(action: Callable[[], object]) -> str:
    """Runs what would change this process, in another."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise PermissionError("refused")
    return "done"


def mount_something() -> None:
    checked(libc.unshare(0x1002_0000))
    checked(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))


@probe
def a_nested_user_namespace() -> object:
    return in_a_child(lambda: checked(libc.unshare(0x1000_0000)))


@probe
def a_mount() -> object:
    return in_a_child(mount_something)


@probe
def a_memory_file_that_no_limit_counts() -> object:
    return os.memfd_create("hidden")


def main() -> None:
    results = {}
    for name, attempt in PROBES.items():
        try:
            results[name] = {"reached": str(attempt())}
        except Exception as error:
            results[name] = {"held": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(results))


main()
