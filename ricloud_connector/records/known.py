"""Fields of records whose meaning the vendor documents. Pure.

The vendor publishes no complete schema of any feed, and renames fields between releases (`id` became `file_id`, `data_type`
became `type`), so that columns keep the names and the types that the documents have. What is known of a field is told beside
its column: in Dagster, and in the guide.
"""

from __future__ import annotations

from typing import Final

KNOWN_FIELDS: Final = {
    "file_id": "The file that belongs to the record; results of that identifier hold its bytes (releases before: `id`)",
    "id": "The record's own id; in releases before `file_id`, of a file",
    "type": "What kind of record or file it is (releases before: `data_type`)",
    "data_type": "What kind of record or file it is, in earlier releases; now `type`",
    "name": "The file's name, with its extension",
    "extension": "The file's extension, without a dot",
    "mime_type": "The file's media type",
    "size": "The file's size in bytes",
    "checksum": "The file's md5, in hex",
    "attachments": "The files that belong to a message, an object each",
}
"""By field name, in words."""
