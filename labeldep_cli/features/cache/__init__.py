"""The feature cache: all that knows HDF5.

A cache holds, for the N rows of one split: `features` f16 [N, V, F] (or [N, V, S, F]: S regions of the last feature
map, for heads that look at places), `labels` i8 [N, L], `ids` (UTF-8), `done` (u1 [N]: 1 when the row is written) and
`skipped` (u1 [N]: 0, or the `Reason` why the row's image could not be used; its features are then 0). `origin` is a
JSON string that says what it was made from; no attribute, since those end at 64 KiB and label names may be many. View 0
is the test transform.

In work it is called NAME.h5.partial: the default library version, contiguous storage, allocated up front; rows are
written and flushed before their bits are set and flushed, so that a kill -9 loses at most the rows under way.

Several processes write a part each, a cache of its own; joined, `features` is a virtual data set over the parts
beside it.
"""

from labeldep_cli.features.cache.join import join_parts, reasons_of
from labeldep_cli.features.cache.parts import Part, begun, cut, drop, tidy
from labeldep_cli.features.cache.read import CacheRows, FeatureCache, Read, read_origin, skipped_rows
from labeldep_cli.features.cache.write import CacheWriter, cache_bytes

__all__ = [
    "CacheRows",
    "CacheWriter",
    "FeatureCache",
    "Part",
    "Read",
    "begun",
    "cache_bytes",
    "cut",
    "drop",
    "join_parts",
    "read_origin",
    "reasons_of",
    "skipped_rows",
    "tidy",
]
