"""CheXpert: a blank means that a finding is not mentioned, -1 that the report is uncertain."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.entries import Entry
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import header_of
from labeldep_cli.ingest.table_files import tables_of

_OTHERS = ("Path", "path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_PATIENT = re.compile(r"(?:^|[/\\])(patient\d+)(?=[/\\])")


def recognises(source: Path) -> bool:
    """Whether a table has CheXpert's columns."""
    return any({"Frontal/Lateral", "AP/PA"} <= set(header_of(file)) for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read train.csv, valid.csv, or a folder with both; the folder of a patient is the group of its images.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    header = header_of(tables_of(source)[0][1])
    findings = tuple(name for name in header if name not in (*_OTHERS, *config.ignore_columns, config.group_column))
    path = next((name for name in header if name.lower() == "path"), None)
    how = defined(config, path_column=path, label_columns=findings, blank="absent", minus_one="unknown")
    understood = [] if config.group_column else ["the folder of a patient is the group of its images"]
    return read_tables(source, config, how, also=_with_patient, understood=understood)


def _with_patient(entry: Entry) -> Entry:
    patient = _PATIENT.search(entry.path)
    return replace(entry, group=patient[1]) if patient and entry.group is None else entry
