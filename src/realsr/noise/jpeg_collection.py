"""The stage that collects the JPEG tables of source photos."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.data.folders import list_photos
from realsr.data.pool_files import JPEG_TABLES, JpegTables, find_tables, write_jpeg_tables
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign

STAGE = "jpeg_tables"

logger = logging.getLogger("realsr")


def collect_jpeg_tables(source: Path | None, pool: Path, overwrite: bool) -> Path:
    """Write the JPEG tables of source photos to `pool/jpeg_tables.json` and return the file.

    Raises UserError if no photo is a colour JPEG, and at the end if a photo cannot be read.
    """
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [])
    refuse_foreign(pool, STAGE, JPEG_TABLES)
    file = pool / JPEG_TABLES
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(
        pool, STAGE, config={}, seed=None, inputs=inputs, overwrite=overwrite
    ) as record:
        if record.complete and record.has_item("tables"):
            return file
        counts: Counter[JpegTables] = Counter()
        for name, path in photos.items():
            try:
                tables = find_tables(path)
            except OSError as error:
                record.fail(name, f"source/{path.name}", path, error)
                continue
            if tables is not None:
                counts[tables] += 1
        if not counts:
            raise UserError(
                f"{source}: none of {len(photos)} photos is a colour JPEG. "
                "Set online_degradation.jpeg=quality" + record.list_failures()
            )
        distinct = [replace(tables, photos=count) for tables, count in counts.items()]
        write_jpeg_tables(file, distinct)
        record.add("tables", [file], photos=counts.total(), tables=len(distinct))
        logger.info(
            "jpeg: %d different tables of %d photos, in %s", len(distinct), counts.total(), file
        )
        record.finish()
    return file
