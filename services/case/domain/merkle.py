"""What one hash stands for many? The Merkle tree hash of RFC 6962, section 2.1.

A leaf is hashed behind 0x00 and a node behind 0x01, so that no node can be passed off as a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """SHA-256 Merkle root of the leaves in their order; of none the hash of nothing."""
    if not leaves:
        return hashlib.sha256().digest()
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # Pairs from the left, an odd last one goes up as it is: the same tree as splitting at the largest power of two.
        level = [
            hashlib.sha256(b"\x01" + level[at] + level[at + 1]).digest() if at + 1 < len(level) else level[at]
            for at in range(0, len(level), 2)
        ]
    return level[0]
