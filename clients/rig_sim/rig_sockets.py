"""The rig's ends of the wire: where its messages go out and commands come in; nothing here ever waits."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from dataclasses import dataclass

import zmq

from clients.robots.rig_wire import (
    CAMERA_PORT,
    COMMAND_PORT,
    SENSOR_PORT,
    STATE_PORT,
    BadMessage,
    CameraFrame,
    Command,
    RobotState,
    SensorRecords,
    decode_command,
    encode_camera,
    encode_sensor,
    encode_state,
)
from clients.robots.rig_wire_status import RigStatus, encode_status
from policy.errors import UsageError

# Two rounds of all views; what a receiver has not fetched by then is late anyway.
_CAMERA_QUEUE = 10


@dataclass(frozen=True)
class RigAddresses:
    """Where the rig is and whom it serves. A port of 0 takes a free one where the rig binds."""

    host: str = "127.0.0.1"  # of the rig: state is published and commands are taken here
    receiver: str = "127.0.0.1"  # cameras and sensor are sent there
    camera_port: int = CAMERA_PORT
    state_port: int = STATE_PORT
    sensor_port: int = SENSOR_PORT
    command_port: int = COMMAND_PORT


class RigSockets:
    """Open from the start; close when done. One thread uses it.

    Raises:
        UsageError: an address that cannot be bound or is none.
    """

    def __init__(self, addresses: RigAddresses) -> None:
        self._context = zmq.Context()
        self._to = (addresses.receiver, addresses.sensor_port)
        self.counts: Counter[str] = Counter()
        try:
            self._cameras = self._context.socket(zmq.PUSH)
            self._cameras.setsockopt(zmq.SNDHWM, _CAMERA_QUEUE)
            # Pictures for a receiver that is not there yet would be old when it comes.
            self._cameras.setsockopt(zmq.IMMEDIATE, 1)
            self._cameras.connect(f"tcp://{addresses.receiver}:{addresses.camera_port}")
            self._state = self._context.socket(zmq.PUB)
            self.state_port = _bind(self._state, addresses.host, addresses.state_port)
            self._commands = self._context.socket(zmq.PULL)
            self.command_port = _bind(self._commands, addresses.host, addresses.command_port)
            self._sensor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            socket.inet_pton(socket.AF_INET, socket.gethostbyname(addresses.receiver))
        except (zmq.ZMQError, OSError) as error:
            self._context.destroy(linger=0)
            raise UsageError(f"the rig cannot use its addresses: {error}") from None

    def send_camera(self, frame: CameraFrame) -> None:
        try:
            self._cameras.send_multipart(encode_camera(frame), zmq.NOBLOCK)
            self.counts["pictures"] += 1
        except zmq.Again:
            self.counts["pictures unsent"] += 1

    def send_state(self, state: RobotState) -> None:
        self._state.send_multipart(encode_state(state), zmq.NOBLOCK)
        self.counts["states"] += 1

    def send_status(self, status: RigStatus) -> None:
        self._state.send_multipart(encode_status(status), zmq.NOBLOCK)

    def send_sensor(self, records: SensorRecords) -> None:
        # Nobody listening is no fault of the rig's.
        with contextlib.suppress(OSError):
            self._sensor.sendto(encode_sensor(records), self._to)
            self.counts["samples"] += len(records.values)

    def commands(self) -> list[Command]:
        """What came since the last look; what is no command is counted and dropped."""
        taken: list[Command] = []
        while True:
            try:
                message = self._commands.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return taken
            try:
                if len(message) != 1:
                    raise BadMessage("parts", f"a command has 1 part, this one {len(message)}")
                taken.append(decode_command(message[0]))
            except BadMessage as error:
                self.counts[f"bad commands ({error.kind})"] += 1

    def close(self) -> None:
        self._sensor.close()
        self._context.destroy(linger=0)


def _bind(endpoint: zmq.Socket, host: str, port: int) -> int:
    endpoint.bind(f"tcp://{host}:{port or '*'}")
    bound = endpoint.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return int(bound.rsplit(b":", 1)[1])
