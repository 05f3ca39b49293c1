"""With which key is evidence signed?"""

from __future__ import annotations

from pathlib import Path

from services.chassis.signing import KeyFile

KEY_ID = "case-evidence"


class FileSigner(KeyFile):
    """The `Signer` over a file; by default the key of evidence."""

    def __init__(self, private_dir: Path, public_dir: Path, key_id: str = KEY_ID) -> None:
        """Makes the pair at first use. Raises OSError, ValueError for a file that is not a key."""
        super().__init__(private_dir, public_dir, key_id)
