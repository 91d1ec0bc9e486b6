"""A labeller that stays: one JSON request a line, one JSON answer a line."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from labeldep_cli.datasets.image_file import ImageFile, InMemory
from labeldep_cli.features.decode import decode_here
from labeldep_cli.labelling.labeller import Labeller
from labeldep_cli.labelling.paths import BATCH
from labeldep_cli.labelling.prediction import label, record

REQUEST_FORMS = '{"path": FILE}, {"paths": [FILE, ...]} or {"image": BASE64}'

_PER_THREAD = 2e9
"""Multiply-adds of an image that make a thread worth waking: SqueezeNet has .26e9, ResNet-50 4.1e9, VGG-16 15e9."""

Answer = Mapping[str, Any]


def threads_for_one(labeller: Labeller) -> int:
    """How many threads to label a single image with: one for each `_PER_THREAD` multiply-adds, at most all.

    Threads sleep between requests, and waking them for each layer of a small network costs more than they save: on two
    threads SqueezeNet and ResNet-18 are no quicker than on one, ResNet-50 and ResNet-101 are. The rule looks at the
    network and the machine alone, never at a clock: the last digits of an answer are the same in every process. A
    user's own OMP_NUM_THREADS stands, and on a GPU threads have nothing to do.
    """
    image = torch.zeros(1, 3, labeller.side, labeller.side, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counted:
        labeller.label(image)  # a first pass costs more, so that it is well done here
    every = torch.get_num_threads()
    if labeller.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return every
    multiply_adds = counted.get_total_flops() / 2
    return min(every, max(1, int(multiply_adds / _PER_THREAD)))


def complete(answer: Answer) -> bool:
    """Whether every image that a request named was labelled."""
    return not any("error" in one or "skipped" in one for one in (answer, *answer.get("predictions", ())))


class _Malformed(Exception):
    """What is wrong with a request, in words for the one who wrote it."""


def answer(labeller: Labeller, line: bytes, everything: bool) -> Answer:
    """Answer one request, a line of JSON; what is no request gets an answer with `error`."""
    identity: dict[str, Any] = {}
    try:
        request = _parsed(line)
        identity = {"id": request.pop("id")} if "id" in request else {}
        if len(request) != 1 or not request.keys() <= _READERS.keys():
            told = ", ".join(map(repr, request)) or "none"
            raise _Malformed(
                f"a request has one of the keys 'path', 'paths', 'image', and may have 'id'; found: {told}"
            )
        ((kind, value),) = request.items()
        return {**identity, **_READERS[kind](labeller, value, everything)}
    except _Malformed as malformed:
        return {**identity, "error": str(malformed)}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"no JSON: {error}; a request is {REQUEST_FORMS}") from None
    if not isinstance(request, dict):
        raise _Malformed(f"no JSON object; a request is {REQUEST_FORMS}")
    return request


def _no_number(text: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{text} is no JSON number")


def _one_path(labeller: Labeller, path: object, everything: bool) -> Answer:
    return _many_paths(labeller, [path], everything)["predictions"][0]  # type: ignore[no-any-return]


def _many_paths(labeller: Labeller, paths: object, everything: bool) -> Answer:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise _Malformed("a path is a string, and 'paths' a list of them")
    parts = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
    found = [one for part in parts for one in _labelled(labeller, part, [Path(path) for path in part], everything)]
    return {"predictions": found}


def _image(labeller: Labeller, text: object, everything: bool) -> Answer:
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        content = None
    if content is None:
        raise _Malformed("'image' is not base64: give it an image file's bytes in it")
    (found,) = _labelled(labeller, [""], [InMemory(content)], everything)
    return {**found, "path": None}


_READERS = {"path": _one_path, "paths": _many_paths, "image": _image}


def _labelled(
    labeller: Labeller, paths: Sequence[str], files: Sequence[ImageFile], everything: bool
) -> Iterator[dict[str, Any]]:
    decoded = decode_here(files.__getitem__, [(k, (0,)) for k in range(len(files))], labeller.side, labeller.run.draft)
    for found in label(labeller, paths, decoded):
        yield record(found, everything)
