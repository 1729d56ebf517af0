"""Makes a golden bundle: ``python -m tests.seal.make_golden v1``, once per version of the format, never again.

The signing key is thrown away. Every later release must verify every golden bundle (test_golden.py).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ringfence.seal.signing import load_or_create
from tests.seal import sample

FOLDER = Path(__file__).parent / "golden"


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        key = load_or_create(Path(folder) / "seal.key")
        written = sample.write(Path(folder) / "bundle.tar", key)
        with (FOLDER / f"{version}.tar").open("xb") as bundle, (FOLDER / f"{version}.pub").open("xb") as public:
            bundle.write(written.path.read_bytes())
            public.write(key.public_key.to_pem())
    print(f"{version}: sha256:{written.sha256}, key {written.key_id}")


if __name__ == "__main__":
    main(sys.argv[1])
