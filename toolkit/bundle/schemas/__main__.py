"""``python -m toolkit.bundle.schemas``: write the schemas again after a record has changed."""

from __future__ import annotations

from toolkit.bundle.schemas import FOLDER, RECORDS, schema_text
from toolkit.files import write_text

if __name__ == "__main__":
    for name in RECORDS:
        write_text(FOLDER / name, schema_text(name))
