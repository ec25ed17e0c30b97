"""`--save-data`: what the robot sees and does, on disk within a second, whatever becomes of this process.

    control thread   every command; at each frame's instant a mark into a short queue, or a count where it is full
    camera thread    looks and packs JPEGs, into a short queue, or a count where it is full
    writer thread    appends to a journal

The queues hold less than a second, so a kill loses no more, and memory is bounded (of a simulator that renders too
slowly for its rate, up to five seconds may wait). A frame that was lost ends the
part of the episode that it was in: what is recorded is never out of step. `finish` turns the journals into a
LeRobotDataset v3.0, when the run ends or, with `tinyvla recover`, after a kill.
"""

from clients.recording.finish import finish
from clients.recording.recorder import Recorder

__all__ = ["Recorder", "finish"]
