"""Endpoints for robots that already speak to something else: openpi, OpenVLA and GR00T, onto the same engine.

Each peer has a codec (bytes to plain maps and arrays), and all share `peer_request`, which finds the policy's
cameras and state in what the peer calls them.
"""
