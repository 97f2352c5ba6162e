"""The records dataset: the rows inside JSON results, typed, a table per feed, derived from contents alone.

From the bottom up. Pure: `document` (bytes to records), `columns` (which types, and why none ever widens), `fitting` (values
into columns, the rest into `_extra`), `rows` (tables and back), `bulk` (the fast way, where it is certainly the same), `known`
(what the vendor tells of fields), `cutting` (a large document into small ones). On the lake: `feed` (a feed's columns and
files), `part` (one file), `sources` (the documents of a contents part), `portions` (how much is taken at a time), `large` (a
document that is taken in pieces), `filling` (one contents part's files), `derived` (what is done), `derive` (a day), `rebuild`
(all anew).
"""

from __future__ import annotations

from ricloud_connector.records.derive import RecordsReport, derive_records
from ricloud_connector.records.rebuild import rebuild_records

__all__ = ["RecordsReport", "derive_records", "rebuild_records"]
