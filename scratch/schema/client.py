"""A client of exec-server in one file: Python 3.11 or later, without dependencies.

    with connect("ws://127.0.0.1:8080") as client:
        process = client.start(["sort"], stdin=True)
        process.write(b"b\\na\\n")
        process.close_stdin()
        print(process.communicate().stdout)

Printed by `exec-server schema --client python`. Every request of the protocol is a method of `Client`, with parameters
and a result as they are on the wire: bytes are base64 in them (`encode`, `decode`). A request that the server refuses
raises `RpcError`, a lost connection `ConnectionLost`, and a time that runs out `TimeoutError`.

A thread reads what the server sends. Requests may be made from several threads at once.
"""

# <version>

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Never, NotRequired, Protocol, TypeAlias, TypedDict, Union, cast
from urllib.parse import unquote, urlsplit

# <types>


class RpcError(Exception):
    """The server has refused a request, or could not carry it out."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.method = method
        self.code = code
        self.message = message


class ConnectionLost(ConnectionError):
    """The connection has ended, or could not be made. A session that is kept can be resumed on another one."""


# The timeout of the client, in place of one of the call.
DEFAULT: Final = -1.0

# How long a write to a socket may take, in seconds.
_SEND_SECONDS: Final = 60

# The output of a process that may be under way to its reader, in bytes.
_WINDOW: Final = 1 << 20

# The most notifications that wait for an iterator; then the connection is not read until it takes some.
_MAX_WAITING: Final = 256

# The answer to `initialize` while the server still believes in the last connection of a session.
_SESSION_ATTACHED: Final = -32010


def encode(data: bytes) -> str:
    """Bytes as the protocol has them."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of a member in base64."""
    return base64.b64decode(text, validate=True)


class Transport(Protocol):
    """Carries messages to a server."""

    def send(self, message: bytes) -> None: ...

    def receive(self) -> bytes:
        """The next message. Raises ConnectionLost at the end."""
        ...

    def close(self) -> None:
        """Ends the connection; `receive` returns."""
        ...


class _Lines:
    """A server that this process has started, with a message on each line."""

    def __init__(self, argv: Sequence[str], max_message_bytes: int) -> None:
        self._max = max_message_bytes
        self._sending = threading.Lock()
        # In a session of its own: ^C is for this program, which then ends it.
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def send(self, message: bytes) -> None:
        assert self._child.stdin is not None
        with self._sending:
            self._child.stdin.write(message + b"\n")
            self._child.stdin.flush()

    def receive(self) -> bytes:
        assert self._child.stdout is not None
        line = self._child.stdout.readline(self._max + 1)
        if len(line) > self._max:
            raise ConnectionLost(f"a message has more than {self._max} bytes")
        if not line:
            self._child.stdout.close()
            raise ConnectionLost("the server has closed its output")
        return line

    def close(self) -> None:
        """Closes its input, which ends it; then SIGTERM and SIGKILL do, after 5 seconds each."""
        for end in (self._close_input, self._child.terminate, self._child.kill):
            end()
            try:
                self._child.wait(5)
                return
            except subprocess.TimeoutExpired:
                continue

    def _close_input(self) -> None:
        assert self._child.stdin is not None
        # A server that does not read holds up who writes.
        if self._sending.acquire(timeout=5):
            try:
                # It may have ended already.
                with suppress(OSError):
                    self._child.stdin.close()
            finally:
                self._sending.release()


class _WebSocket:
    """A WebSocket (RFC 6455) of text messages, on a connected socket."""

    def __init__(self, sock: socket.socket, host: str, target: str, token: str | None, max_message_bytes: int) -> None:
        self._socket = sock
        self._max = max_message_bytes
        self._sending = threading.Lock()
        self._input = sock.makefile("rb")
        try:
            self._upgrade(host, target, token)
        except BaseException:
            self._input.close()
            raise
        sock.settimeout(None)
        # Where the system lacks it, a write may take as long as the connection lives.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))

    def _upgrade(self, host: str, target: str, token: str | None) -> None:
        key = encode(os.urandom(16))
        headers = [
            f"GET {target} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *([] if token is None else [f"Authorization: Bearer {token}"]),
        ]
        self._socket.sendall(("\r\n".join(headers) + "\r\n\r\n").encode("ascii"))
        status, found = self._head()
        if status.split(" ", 2)[1:2] != ["101"]:
            why = self._input.read(min(int(found.get("content-length") or 0), 1000)).decode("utf-8", "replace").strip()
            raise ConnectionLost(f"the server has refused the connection: {status} {why}".rstrip())
        digest = sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode("ascii")).digest()
        if found.get("sec-websocket-accept") != encode(digest):
            raise ConnectionLost("what answers is no WebSocket server")

    def _head(self) -> tuple[str, dict[str, str]]:
        """The status line and the headers of the answer."""
        lines: list[str] = []
        while sum(map(len, lines)) < 65536:
            line = self._input.readline(65536).decode("latin-1")
            if not line:
                raise ConnectionLost("the server has closed the connection")
            if not line.strip():
                break
            lines.append(line.strip())
        fields = (line.partition(":") for line in lines[1:])
        return (lines or [""])[0], {name.strip().lower(): value.strip() for name, _, value in fields}

    def send(self, message: bytes) -> None:
        self._frame(1, message)

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        # As one large number: a loop over the bytes would take a second for each 10 MB.
        masks = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(masks, "big")).to_bytes(size, "big")
        with self._sending:
            self._socket.sendall(head + mask + masked)

    def _exactly(self, size: int) -> bytes:
        data = self._input.read(size)
        if len(data) < size:
            raise ConnectionLost("the server has closed the connection")
        return data

    def receive(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        is_begun = False
        while True:
            first, second = self._exactly(2)
            is_final, opcode = first & 0x80 != 0, first & 0x0F
            length = second & 0x7F
            if first & 0x70 or second & 0x80 or (opcode >= 8 and (not is_final or length > 125)):
                raise ConnectionLost("the server has sent an invalid frame")
            if length == 126:
                (length,) = struct.unpack("!H", self._exactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._exactly(8))
            if opcode == 8:
                raise self._ended(self._exactly(length))
            if opcode == 9:
                self._frame(10, self._exactly(length))
            elif opcode == 10:
                self._exactly(length)
            elif opcode == (0 if is_begun else 1):
                size += length
                if size > self._max:
                    raise ConnectionLost(f"a message has more than {self._max} bytes")
                parts.append(self._exactly(length))
                if is_final:
                    return b"".join(parts)
                is_begun = True
            else:
                raise ConnectionLost(f"the server has sent an unexpected frame of kind {opcode}")

    def _ended(self, payload: bytes) -> ConnectionLost:
        """The reason of a close frame, which is answered."""
        # It may not wait for that.
        with suppress(OSError):
            self._frame(8, payload[:2])
        code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
        reason = payload[2:].decode("utf-8", "replace")
        return ConnectionLost(f"the server has closed the connection: {reason} ({code})")

    def close(self) -> None:
        # It may have ended already.
        with suppress(OSError):
            self._frame(8, struct.pack("!H", 1000))
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._input.close()
        self._socket.close()


class _Call:
    """A request without an answer."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: dict[str, Any] = {}


class Notifications:
    """An iterator of what the server sends on its own, from now on until the connection is closed.

    Take from it in a thread of its own, or ask for nothing meanwhile: while it is full the connection is not read, and
    answers wait as well. `close` ends it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: deque[Notification] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        client._listeners.append(self._arrived)
        client._at_end.append(self._wake)

    def _arrived(self, message: Notification) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._waiting) < _MAX_WAITING or self._is_closed or self._client._is_closed
            )
            self._waiting.append(message)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __iter__(self) -> Notifications:
        return self

    def __next__(self) -> Notification:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed or self._client.ended is not None)
            if self._is_closed or (not self._waiting and self._client._is_closed):
                raise StopIteration
            if not self._waiting:
                raise self._client._lost()
            message = self._waiting.popleft()
            self._changed.notify_all()
            return message

    def close(self) -> None:
        """Ends it; the iterator stops."""
        self._is_closed = True
        if self._arrived in self._client._listeners:
            self._client._listeners.remove(self._arrived)
            self._client._at_end.remove(self._wake)
        self._wake()


class Client:
    """A connection to a server, and its session. `connect` and `launch` make one; `close`, or `with`, ends it."""

    def __init__(
        self,
        transport: Transport,
        *,
        initialize: InitializeParams,
        on_notification: Callable[[Notification], None] | None = None,
        timeout: float | None = 60.0,
    ) -> None:
        self.timeout = timeout
        self.ended: BaseException | None = None
        self._transport = transport
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._processes: dict[str, Process] = {}
        self._listeners: list[Callable[[Notification], None]] = [] if on_notification is None else [on_notification]
        self._at_end: list[Callable[[], None]] = []
        self._last_id = 0
        self._is_closed = False
        self._has_window = False
        self._thread = threading.Thread(target=self._read, name="exec-server client", daemon=True)
        self._thread.start()
        try:
            self.session = self._opened(initialize)
            self._has_window = self.session.get("capabilities", {}).get("outputWindow") is not None
            self.initialized()
        except BaseException:
            self.close()
            raise

    def _opened(self, params: InitializeParams) -> InitializeResult:
        """Initializes. The server may not have noticed yet that the last connection of a session is lost."""
        patience = time.monotonic() + (60.0 if self.timeout is None else self.timeout)
        while True:
            try:
                return self.initialize(params)
            except RpcError as error:
                if error.code != _SESSION_ATTACHED or time.monotonic() > patience:
                    raise
                time.sleep(0.1)

    @property
    def session_id(self) -> str:
        """The id that resumes the session: `connect(url, resume=session_id)`. It is a secret."""
        return self.session["sessionId"]

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. A server that was started with it ends as well."""
        self._is_closed = True
        for wake in list(self._at_end):
            wake()
        self._transport.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def call(self, method: str, params: object = None, *, timeout: float | None = DEFAULT) -> Any:
        """Sends a request and returns its result. `timeout` is in seconds; None for no limit."""
        call = _Call()
        with self._lock:
            if self.ended is not None:
                raise self._lost()
            self._last_id += 1
            id = self._last_id
            self._calls[id] = call
        limit = self.timeout if timeout == DEFAULT else timeout
        try:
            self._send({"id": id, "method": method, "params": params})
            if not call.done.wait(limit):
                raise TimeoutError(f"{method} was not answered within {limit} seconds")
        finally:
            self._calls.pop(id, None)
        if "error" in call.answer:
            error = call.answer["error"]
            raise RpcError(method, error["code"], error["message"])
        if "result" not in call.answer:
            raise self._lost()
        return call.answer["result"]

    def notify(self, method: str, params: object = None) -> None:
        """Sends a notification."""
        self._send({"method": method, "params": params})

    def notifications(self) -> Notifications:
        """What the server sends on its own, from now on."""
        return Notifications(self)

    def _send(self, message: object) -> None:
        try:
            self._transport.send(json.dumps(message, separators=(",", ":")).encode("utf-8"))
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"the connection is lost: {error}") from error

    def _lost(self) -> ConnectionLost:
        if isinstance(self.ended, ConnectionLost):
            return ConnectionLost(*self.ended.args)
        lost = ConnectionLost(f"the connection has ended: {self.ended}")
        lost.__cause__ = self.ended
        return lost

    def _read(self) -> None:
        """Takes what the server sends, until the end of the connection. Runs in its own thread."""
        try:
            while True:
                self._take(json.loads(self._transport.receive()))
        except BaseException as error:
            ended = ConnectionLost("the connection is closed") if self._is_closed else error
        with self._lock:
            self.ended = ended
            calls = list(self._calls.values())
        for call in calls:
            call.done.set()
        for wake in list(self._at_end):
            wake()
        if not self._is_closed:
            self._transport.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._notified(cast("Notification", message))
        elif message["id"] == -1:
            raise ConnectionLost(f"the server has not understood a message: {message['error']['message']}")
        elif (call := self._calls.get(message["id"])) is not None:
            call.answer = message
            call.done.set()

    def _notified(self, message: Notification) -> None:
        process = self._processes.get(cast("dict[str, Any]", message["params"]).get("processId", ""))
        for listener in list(self._listeners):
            listener(message)
        if process is not None:
            process._arrived(message)
        elif message["method"] == "process/output" and self._has_window:
            self.process_ack({"processId": message["params"]["processId"], "seq": message["params"]["seq"]})

    # The requests and notifications of the protocol.

    # <methods>
    # What most programs need.

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        tty: bool = False,
        time_limit: float | None = None,
    ) -> Process:
        """Starts a process.

        By default in the directory and with the environment of the server, less variables that look like secrets;
        `env` is its whole environment. `stdin` makes its input writable, and so does a terminal (`tty`). After
        `time_limit` seconds it is killed with its descendants.
        """
        process_id = f"p-{secrets.token_hex(8)}"
        params: StartParams = {
            "processId": process_id,
            "argv": list(argv),
            "cwd": cwd or (self.session.get("environmentInfo") or {}).get("cwd") or "/",
            "env": dict(env or {}),
            "tty": tty,
            "pipeStdin": stdin,
        }
        if env is None:
            params["envPolicy"] = {
                "inherit": "all",
                "ignoreDefaultExcludes": False,
                "exclude": [],
                "set": {},
                "includeOnly": [],
            }
        if time_limit is not None:
            params["timeoutMs"] = round(time_limit * 1000)
        process = Process(self, process_id, 0)
        try:
            self.process_start(params)
        except BaseException:
            process._forget()
            raise
        return process

    def process(self, process_id: str, after_seq: int = 0) -> Process:
        """A process of this session that another connection has started, from after an event on."""
        process = Process(self, process_id, after_seq)
        process._is_behind = True
        return process

    def read_file(self, path: str) -> bytes:
        """The content of a file of at most 512 MiB."""
        return decode(self.fs_read_file({"path": path})["dataBase64"])

    def write_file(self, path: str, data: bytes) -> None:
        """Creates a file, or replaces its content."""
        self.fs_write_file({"path": path, "dataBase64": encode(data)})


class Output(NamedTuple):
    """A chunk of output."""

    stream: Literal["stdout", "stderr", "pty"]
    data: bytes


class Completed(NamedTuple):
    """The exit status of a process, 128 + n after signal n, and its output; of a terminal, all in `stdout`."""

    exit_code: int | None
    signal: str | None
    stdout: bytes
    stderr: bytes


class Process:
    """A process. Iterating takes its output, in order and complete, until it has ended and all output was read.

    What is not taken holds the process up, after a megabyte. `seq` counts the events that were taken:
    `client.process(process_id, seq)` goes on after them on another connection of the session.
    """

    def __init__(self, client: Client, process_id: str, after_seq: int) -> None:
        self.client = client
        self.process_id = process_id
        self.seq = after_seq
        # Set when it has exited.
        self.exit_code: int | None = None
        self.signal: str | None = None
        # Whether output was dropped that was not taken while there was no connection.
        self.truncated = False
        self._is_closed = False
        self._is_behind = False
        self._waiting: deque[Notification] = deque()
        self._changed = threading.Condition()
        client._processes[process_id] = self
        client._at_end.append(self._wake)

    def write(self, data: bytes, *, timeout: float | None = DEFAULT) -> None:
        """Queues input. Raises BrokenPipeError where it goes nowhere."""
        params: ProcessWriteParams = {"processId": self.process_id, "chunk": encode(data)}
        status = self.client.process_write(params, timeout=timeout)["status"]
        if status != "accepted":
            raise BrokenPipeError(f"the process takes no input: {status}")

    def close_stdin(self) -> None:
        """Ends the input, after everything written before."""
        self.client.process_close_stdin({"processId": self.process_id})

    def send_signal(self, name: str, target: Literal["group", "leader", "tree"] = "group") -> None:
        """Sends a signal, such as SIGTERM."""
        self.client.process_signal({"processId": self.process_id, "signal": name, "target": target})

    def terminate(self, grace: float = 0) -> None:
        """Ends it with its descendants: with SIGTERM first, if they have `grace` seconds, and with SIGKILL."""
        mode: TerminateMode = {"type": "force"}
        if grace > 0:
            mode = {"type": "graceful", "timeoutMs": round(grace * 1000)}
        self.client.process_terminate({"processId": self.process_id, "mode": mode})

    def wait(self, *, timeout: float | None = None) -> int | None:
        """Waits for its exit, and returns the exit status. Its output has to be taken meanwhile, if there is much."""
        return self.client.process_wait({"processId": self.process_id}, timeout=timeout)["exitCode"]

    def communicate(self, data: bytes | None = None) -> Completed:
        """Writes the input, if there is any, and takes all output."""
        writer = None if data is None else threading.Thread(target=self._feed, args=(data,), daemon=True)
        if writer is not None:
            writer.start()
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for stream, chunk in self:
            output["stderr" if stream == "stderr" else "stdout"].append(chunk)
        if writer is not None:
            writer.join()
        return Completed(self.exit_code, self.signal, b"".join(output["stdout"]), b"".join(output["stderr"]))

    def _feed(self, data: bytes) -> None:
        # It may end without reading all of it. If the connection is lost, its reader is told.
        with suppress(OSError, RpcError):
            for start in range(0, len(data), _WINDOW):
                self.write(data[start : start + _WINDOW], timeout=None)
            self.close_stdin()

    def __iter__(self) -> Iterator[Output]:
        try:
            while not self._is_closed:
                if self._is_behind:
                    yield from self._missed()
                else:
                    yield from self._taken(self._next())
        finally:
            if self._is_closed:
                self._forget()

    def _next(self) -> Notification | None:
        """The next event; None if the connection has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.client.ended is not None)
            return self._waiting.popleft() if self._waiting else None

    def _taken(self, message: Notification | None) -> Iterator[Output]:
        if message is None:
            raise self.client._lost()
        if message["method"] not in ("process/output", "process/exited", "process/restarted", "process/closed"):
            return
        seq: int = cast("dict[str, Any]", message["params"])["seq"]
        if seq <= self.seq:
            return
        if seq > self.seq + 1:
            # Events from before this connection: they are read first.
            self._waiting.appendleft(message)
            self._is_behind = True
            return
        self.seq = seq
        if message["method"] == "process/output":
            yield Output(message["params"]["stream"], decode(message["params"]["chunk"]))
            self._acknowledge()
        elif message["method"] == "process/exited":
            self.exit_code = message["params"]["exitCode"]
            self.signal = message["params"].get("signal")
        elif message["method"] == "process/closed":
            self._is_closed = True

    def _missed(self) -> Iterator[Output]:
        """What the server has retained after `seq`."""
        read = self.client.process_read({"processId": self.process_id, "afterSeq": self.seq, "maxBytes": _WINDOW})
        self.truncated = self.truncated or read.get("truncated", False)
        for chunk in read["chunks"]:
            self.seq = chunk["seq"]
            yield Output(chunk["stream"], decode(chunk["chunk"]))
        self.seq = max(self.seq, read["nextSeq"] - 1)
        self._acknowledge()
        if read["chunks"]:
            return
        self._is_behind = False
        if read["exited"]:
            self.exit_code, self.signal = read["exitCode"], read.get("signal")
        self._is_closed = read["closed"]

    def _acknowledge(self) -> None:
        if self.client._has_window:
            self.client.process_ack({"processId": self.process_id, "seq": self.seq})

    def _arrived(self, message: Notification) -> None:
        with self._changed:
            self._waiting.append(message)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _forget(self) -> None:
        if self.client._processes.get(self.process_id) is self:
            del self.client._processes[self.process_id]
            self.client._at_end.remove(self._wake)


def _hello(resume: str | None, initialize: InitializeParams | None) -> InitializeParams:
    params: InitializeParams = {
        "clientName": "python",
        "resumeSessionId": resume,
        "capabilities": {"outputWindow": _WINDOW},
    }
    return cast(InitializeParams, {**params, **(initialize or {})})


def _dial(scheme: str, host: str, port: int, path: str, timeout: float | None) -> socket.socket:
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((host, port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A server that has vanished is noticed within a minute.
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def connect(
    url: str,
    *,
    token: str | None = None,
    resume: str | None = None,
    initialize: InitializeParams | None = None,
    on_notification: Callable[[Notification], None] | None = None,
    timeout: float | None = 60.0,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    max_message_bytes: int = 1 << 30,
) -> Client:
    """Connects to a server that listens at ws://, wss:// or unix:///PATH.

    - `token` is that of EXEC_SERVER_TOKEN by default. It goes over plain ws:// to no other machine, unless `insecure`.
    - `resume` is the `session_id` of a session to go on with.
    - `initialize` has other members of the first request, such as `sessionTtlMs` or `takeover`.
    - `on_notification` is called with everything that the server sends on its own, in the thread that reads: it must
      not wait for an answer. If it raises, the connection ends.
    - `timeout` is that of connecting, and of requests that have no other, in seconds.
    """
    token = token or os.environ.get("EXEC_SERVER_TOKEN") or None
    parts = urlsplit(url)
    scheme, host = parts.scheme, parts.hostname or "localhost"
    if scheme not in ("ws", "wss", "unix"):
        raise ValueError(f"{url!r} is no address of a server: ws://HOST:PORT, wss://HOST or unix:///PATH")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("the token has characters that no token has")
    is_local = host == "localhost" or host == "::1" or host.startswith("127.")
    if token is not None and scheme == "ws" and not is_local and not insecure:
        raise ValueError("the token would go over a connection that is not encrypted; use wss://, or insecure=True")
    authority = "localhost" if scheme == "unix" else parts.netloc.rpartition("@")[2]
    target = "/" if scheme == "unix" else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        sock = _dial(scheme, host, parts.port or (443 if scheme == "wss" else 80), unquote(parts.path), timeout)
        try:
            if scheme == "wss":
                sock = (tls or ssl.create_default_context()).wrap_socket(sock, server_hostname=host)
            transport = _WebSocket(sock, authority, target, token, max_message_bytes)
        except BaseException:
            sock.close()
            raise
    except ConnectionLost:
        raise
    except OSError as error:
        raise ConnectionLost(f"cannot connect to {url}: {error}") from error
    return Client(transport, initialize=_hello(resume, initialize), on_notification=on_notification, timeout=timeout)


def launch(
    argv: Sequence[str] = ("exec-server",),
    *,
    initialize: InitializeParams | None = None,
    on_notification: Callable[[Notification], None] | None = None,
    timeout: float | None = 60.0,
    max_message_bytes: int = 1 << 30,
) -> Client:
    """Starts a server that speaks on its stdin and stdout, such as `exec-server`; it ends with the client."""
    transport = _Lines(argv, max_message_bytes)
    hello = _hello(None, initialize)
    return Client(transport, initialize=hello, on_notification=on_notification, timeout=timeout)
