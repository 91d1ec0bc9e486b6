"""Finds out which of the images that were read once are still in a file on this disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.image_file import FileState, Member, file_of, is_gone, key_of, state_of
from labeldep_cli.datasets.shards import image_members
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.decode import Identity, identify
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class KnownImages:
    """The images that existing files have, and the images that they had before.

    Attributes:
        here: CONTENT [H], images that a file on this disk has.
        gone: CONTENT [G], images whose files are all gone or have other content now.
        identities: identities of the files that were read again, because their size or time had changed.
        moved: remembered members of tars that were written again, so that their offsets are no longer valid. Each has
            the current size and time of the tar.
    """

    here: NDArray[np.bytes_]
    gone: NDArray[np.bytes_]
    identities: tuple[Identity, ...] = ()
    moved: tuple[FileState, ...] = ()

    def still_gone(self, known: KnownFiles) -> NDArray[np.bytes_]:
        """The images of `gone` that are still gone, CONTENT [<= G], ascending.

        Other processes may have read files since, and files may have come back. In doubt an image counts as present.
        """
        files = known.files()
        suspects = np.isin(np.array([sha256 for _, sha256 in files], CONTENT), self.gone)
        examined = {*(identity.state for identity in self.identities), *self.moved}
        back = set()
        for row in np.flatnonzero(suspects):
            state, sha256 = files[row]
            file = file_of(state.key)
            now = state_of(file)
            is_back = not is_gone(file) if now is None else now == state or now not in examined
            if is_back:
                back.add(sha256)
        return self.gone[~np.isin(self.gone, _as_array(back))]

    def remember(self, known: KnownFiles) -> None:
        """Record the files that were read again, except for those that have changed since."""
        known.remember([identity for identity in self.identities if _is_current(identity.state)])
        read = {identity.state.key for identity in self.identities}
        known.replace([state.key for state in self.moved if state.key not in read and _is_current(state)])


NOTHING_KNOWN = KnownImages(np.empty(0, CONTENT), np.empty(0, CONTENT))
"""No file was checked."""


def known_images(known: KnownFiles, workers: int, reporter: Reporter) -> KnownImages:
    """Check every file that was read once. Files with another size or time are read again to identify their images.

    All images of a changed tar are read again, because their offsets may have changed. A file that cannot be accessed
    is assumed to be unchanged. Nothing is written.
    """
    here: set[bytes] = set()
    before = set(known.replaced())
    files: dict[Path, bytes] = {}
    tars: dict[Path, list[Identity]] = {}
    for state, sha256 in known.files():
        file = file_of(state.key)
        now = state_of(file)
        if now == state or (now is None and not is_gone(file)):
            here.add(sha256)
            continue
        before.add(sha256)
        if now is None:
            continue
        if isinstance(file, Member):
            tars.setdefault(file.tar, []).append(Identity(state, sha256))
        else:
            files[file] = sha256
    if not files and not tars:
        return KnownImages(_as_array(here), _as_array(before - here))
    reporter.note(f"{len(files) + len(tars)} files were touched since they were read: reading them")
    scans = {tar: scan for tar in tars if (scan := _Scan.of(tar, reporter)) is not None}
    members = [member for scan in scans.values() for member in scan.members]
    with reporter.bar("recognising images", len(files) + len(members), "images") as bar:
        identities = identify([*files, *members], workers, bar)
    read = {identity.state.key: identity for identity in identities if identity is not None}
    certain = [read[key] for key in map(key_of, files) if key in read]
    here.update(sha256 for file, sha256 in files.items() if key_of(file) not in read)
    moved: list[FileState] = []
    for tar, remembered in tars.items():
        scan = scans.get(tar)
        if scan is None or not scan.agrees_with(read):
            here.update(identity.sha256 for identity in remembered)
            continue
        certain += [read[key_of(member)] for member in scan.members]
        moved += [FileState(identity.state.key, scan.size, scan.mtime_ns) for identity in remembered]
    here.update(identity.sha256 for identity in certain)
    return KnownImages(_as_array(here), _as_array(before - here), tuple(certain), tuple(moved))


@dataclass(frozen=True)
class _Scan:
    """The images of a tar.

    Attributes:
        members: its images.
        size, mtime_ns: of the tar when they were listed.
    """

    members: list[Member]
    size: int
    mtime_ns: int

    @staticmethod
    def of(tar: Path, reporter: Reporter) -> _Scan | None:
        """List the images of a tar; None if it cannot be read."""
        state = state_of(tar)
        try:
            return None if state is None else _Scan(image_members(tar), state.size, state.mtime_ns)
        except DatasetError as error:
            reporter.note(f"{error.what}: the features of its images stay")
            return None

    def agrees_with(self, read: Mapping[bytes, Identity]) -> bool:
        """Whether every image was read, and the tar did not change meanwhile."""
        states = (read[key].state if key in read else None for key in map(key_of, self.members))
        return all(state is not None and state[1:] == (self.size, self.mtime_ns) for state in states)


def _is_current(state: FileState) -> bool:
    return state_of(file_of(state.key)) == state


def _as_array(contents: Iterable[bytes]) -> NDArray[np.bytes_]:
    return np.array(sorted(contents), CONTENT)
