from __future__ import annotations

from pathlib import Path

from google_crc32c import value as crc32c

from beamhub.features.checksums import ChecksumFile


def test_checksum_is_taken_as_row_groups_are_written(tmp_path: Path) -> None:
    # At the end the job waits for what is left of it.
    path = tmp_path / "data"
    with path.open("xb") as plain:
        file = ChecksumFile(plain)
        with file.native() as native:
            for data in (b"one" * 9_000, b"two" * 800_000):
                native.write(data)
                native.flush()
                file.measure()
                written = path.read_bytes()
                assert written.endswith(data)
                assert (file.size, file.checksum) == (len(written), f"{crc32c(written):08x}")
        file.close()
