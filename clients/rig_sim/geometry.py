"""Vectors as tuples and rotations: scalar arithmetic, since three numbers are too few to pay for an array."""

from __future__ import annotations

import math

import numpy as np

Vec = tuple[float, float, float]


def dot(a: Vec, b: Vec) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vec, b: Vec) -> Vec:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def add(a: Vec, b: Vec, scale: float = 1.0) -> Vec:
    """a + scale * b."""
    return (a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2])


def norm(a: Vec) -> float:
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def rotated(v: Vec, turn: Vec) -> Vec:
    """`v` turned by the rotation vector `turn`, radians (Rodrigues)."""
    angle = norm(turn)
    if angle < 1e-12:
        return v
    axis = (turn[0] / angle, turn[1] / angle, turn[2] / angle)
    c, s = math.cos(angle), math.sin(angle)
    return add(add((v[0] * c, v[1] * c, v[2] * c), cross(axis, v), s), axis, dot(axis, v) * (1 - c))


def turn_matrix(turn: Vec) -> np.ndarray:
    """float64 [3, 3] of a rotation vector."""
    return np.array([rotated(e, turn) for e in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]).T


def euler_matrix(a: float, b: float, r: float) -> np.ndarray:
    """float64 [3, 3] of a pose's angles in degrees: turns about x, then the new y, then the new z (the needle)."""
    a, b, r = math.radians(a), math.radians(b), math.radians(r)
    ca, sa, cb, sb, cr, sr = math.cos(a), math.sin(a), math.cos(b), math.sin(b), math.cos(r), math.sin(r)
    return np.array(
        [
            [cb * cr, -cb * sr, sb],
            [ca * sr + sa * sb * cr, ca * cr - sa * sb * sr, -sa * cb],
            [sa * sr - ca * sb * cr, sa * cr + ca * sb * sr, ca * cb],
        ]
    )


def angles_of_direction(d: Vec) -> tuple[float, float]:
    """(a, b) in degrees of the pose whose needle, the third column of `euler_matrix`, points along d; |b| <= 90."""
    return math.degrees(math.atan2(-d[1], d[2])), math.degrees(math.asin(max(-1.0, min(1.0, d[0] / norm(d)))))


def angle_between(a: Vec, b: Vec) -> float:
    """Degrees."""
    return math.degrees(math.atan2(norm(cross(a, b)), dot(a, b)))


def perpendicular(direction: Vec) -> tuple[Vec, Vec]:
    """Two unit vectors that span the plane across `direction`."""
    helper = (1.0, 0.0, 0.0) if abs(direction[0]) < 0.9 else (0.0, 1.0, 0.0)
    first = cross(direction, helper)
    length = norm(first)
    first = (first[0] / length, first[1] / length, first[2] / length)
    return first, cross(direction, first)


def matrix_quaternion(matrix: np.ndarray) -> np.ndarray:
    """float64 [4] (w, x, y, z) of a rotation matrix, by Shepperd's choice of the largest component."""
    m = matrix
    four = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(four))
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2]
    rows = [[four[0], x, y, z], [x, four[1], xy, xz], [y, xy, four[2], yz], [z, xz, yz, four[3]]]
    quaternion = np.array(rows[largest]) / (2 * math.sqrt(four[largest]))
    return quaternion / np.linalg.norm(quaternion)
