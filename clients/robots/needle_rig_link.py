"""The driver's ends of the wire: a thread that takes in what the rig sends, and commands on their way out."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import zmq

from clients.robots.needle_rig_config import RigConfig
from clients.robots.needle_rig_decoder import PictureDecoder
from clients.robots.needle_rig_memory import RigMemory
from clients.robots.rig_wire import (
    MAX_JPEG_BYTES,
    STATE_TOPIC,
    BadMessage,
    Command,
    decode_camera,
    decode_sensor,
    decode_state,
    encode_command,
)
from clients.robots.rig_wire_status import STATUS_TOPIC, RigStatus, decode_status
from policy.errors import UsageError

_POLL_MS = 100  # between two looks at whether to stop
# Messages taken from one socket before the others have their turn.
_AT_ONCE = 20
# The largest that UDP can carry; what is longer than the format allows is told apart from what is cut off.
_UDP_BYTES = 65536


class RigLink:
    """Sockets and threads of the driver; `close` ends them.

    Raises:
        UsageError: a port is in use or an address is none.
    """

    def __init__(
        self, config: RigConfig, memory: RigMemory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory, self._clock = memory, clock
        self._view_of = {camera: view for view, camera in config.cameras.items()}
        self.status: RigStatus | None = None
        self._context = zmq.Context()
        self._sensor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ports = config.ports
        try:
            self._cameras = self._context.socket(zmq.PULL)
            self._cameras.setsockopt(zmq.MAXMSGSIZE, MAX_JPEG_BYTES + 1)
            self._cameras.setsockopt(zmq.RCVHWM, 50)
            self._cameras.bind(f"tcp://{config.listen}:{ports.cameras or '*'}")
            self._state = self._context.socket(zmq.SUB)
            for topic in (STATE_TOPIC, STATUS_TOPIC):
                self._state.setsockopt(zmq.SUBSCRIBE, topic)
            self._state.connect(f"tcp://{config.rig}:{ports.state}")
            self._commands = self._context.socket(zmq.PUSH)
            # A command that cannot be sent now must not move the arm later.
            self._commands.setsockopt(zmq.IMMEDIATE, 1)
            self._commands.setsockopt(zmq.SNDHWM, 5)
            self._commands.setsockopt(zmq.LINGER, 200)
            self._commands.connect(f"tcp://{config.rig}:{ports.commands}")
            # For the watchdog's thread alone, since the one above belongs to whoever moves the arm.
            self._brake = self._context.socket(zmq.PUSH)
            self._brake.setsockopt(zmq.IMMEDIATE, 1)
            self._brake.setsockopt(zmq.LINGER, 200)
            self._brake.connect(f"tcp://{config.rig}:{ports.commands}")
            # Room for some datagrams while this thread does not run; the kernel may grant less.
            self._sensor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
            self._sensor.bind((config.listen, ports.sensor))
        except (zmq.ZMQError, OSError) as error:
            self._sensor.close()
            self._context.destroy(linger=0)
            raise UsageError(
                f"the needle rig's driver cannot use its addresses: {error} (cameras {ports.cameras}, "
                f"sensor {ports.sensor} on {config.listen})"
            ) from None
        self._sensor.setblocking(False)
        self._decoder = PictureDecoder(
            memory.take_picture,
            lambda view, error: memory.bad(view, error.kind, str(error)),
            lambda view: memory.count("pictures overtaken"),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="rig-receive", daemon=True)
        self._thread.start()

    @property
    def camera_port(self) -> int:
        bound = self._cameras.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        return int(bound.rsplit(b":", 1)[1])

    @property
    def sensor_port(self) -> int:
        return int(self._sensor.getsockname()[1])

    def send(self, command: Command, *, wait_s: float = 0.0) -> bool:
        """Send a command to the rig; False when nobody takes it within `wait_s`."""
        if wait_s and not self._commands.poll(round(1000 * wait_s), zmq.POLLOUT):
            return False
        try:
            self._commands.send(encode_command(command), zmq.NOBLOCK)
        except zmq.Again:
            self._memory.count("commands unsent")
            return False
        self._memory.count("commands")
        return True

    def halt(self) -> None:
        """Tell the rig to stop; beside whatever the control thread is doing."""
        with contextlib.suppress(zmq.Again):
            self._brake.send(encode_command(Command("stop")), zmq.NOBLOCK)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._decoder.close()
        self._sensor.close()
        self._commands.close()  # with its linger, so that a last stop still leaves
        self._brake.close()
        self._cameras.close(linger=0)
        self._state.close(linger=0)
        self._context.term()

    def _receive(self) -> None:
        poller = zmq.Poller()
        takers: dict[object, Callable[[], None]] = {
            self._cameras: self._take_camera,
            self._state: self._take_state,
            self._sensor.fileno(): self._take_samples,
        }
        for source in takers:
            poller.register(source, zmq.POLLIN)
        while not self._stop.is_set():
            for source, _ in poller.poll(_POLL_MS):
                for _ in range(_AT_ONCE):
                    try:
                        takers[source]()
                    except (zmq.Again, BlockingIOError):
                        break
                    except (
                        OSError
                    ) as error:  # a datagram the kernel complains about; the next one may be well
                        self._memory.bad("sensor", "socket", str(error))
                        break

    def _take_camera(self) -> None:
        parts = self._cameras.recv_multipart(zmq.NOBLOCK, copy=False)
        now = self._clock()
        try:
            frame = decode_camera([part.bytes for part in parts])
        except BadMessage as error:
            self._memory.bad("cameras", error.kind, str(error))
            return
        view = self._view_of.get(frame.camera)
        if view is None:
            self._memory.bad("cameras", "foreign", f"a picture of {frame.camera!r}, which no view is")
        elif self._memory.accepts(view, _peer(parts[0]), now) and self._memory.take_frame(view, frame, now):
            self._decoder.hand_in(view, frame)

    def _take_state(self) -> None:
        parts = self._state.recv_multipart(zmq.NOBLOCK)
        now = self._clock()
        try:
            if parts[0] == STATUS_TOPIC:
                self.status = decode_status(parts)
            else:
                self._memory.take_state(decode_state(parts), now)
        except BadMessage as error:
            self._memory.bad("state", error.kind, str(error))

    def _take_samples(self) -> None:
        datagram, source = self._sensor.recvfrom(_UDP_BYTES)
        now = self._clock()
        try:
            records = decode_sensor(datagram)
        except BadMessage as error:
            self._memory.bad("sensor", error.kind, str(error))
            return
        if self._memory.accepts("sensor", source, now):
            self._memory.take_samples(records, now)


def _peer(part: zmq.Frame) -> object:
    """Address of the machine that a message came from; what has none is all one sender."""
    try:
        return part.get("Peer-Address")
    except (zmq.ZMQError, KeyError):
        return None
