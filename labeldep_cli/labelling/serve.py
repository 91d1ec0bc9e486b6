"""Answers JSON requests with label sets: one request per line, one answer per line."""

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
from labeldep_cli.features.reading import read_here
from labeldep_cli.labelling.labeller import Labeller
from labeldep_cli.labelling.paths import BATCH
from labeldep_cli.labelling.prediction import label, record

REQUEST_FORMS = '{"path": FILE}, {"paths": [FILE, ...]} or {"image": BASE64}'

_PER_THREAD = 2e9
"""Multiply-adds per image that justify one more thread: SqueezeNet has .26e9, ResNet-50 4.1e9, VGG-16 15e9."""

Answer = Mapping[str, Any]


def threads_for_one(labeller: Labeller) -> int:
    """The number of threads to label a single image with: one for each `_PER_THREAD` multiply-adds, at most all.

    Threads sleep between requests. Waking them for each layer of a small network costs more than it saves: with two
    threads, SqueezeNet and ResNet-18 are no faster than with one; ResNet-50 and ResNet-101 are. The rule depends only
    on the network and the machine, never on measured time, so that the last digits of an answer are the same in every
    process. The number stays unchanged if the user has set OMP_NUM_THREADS, and on a GPU, where threads have no work.
    """
    side = labeller.square.side
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counted:
        labeller.label(image)  # also warms the network up: the first pass is slower
    all_threads = torch.get_num_threads()
    if labeller.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return all_threads
    multiply_adds = counted.get_total_flops() / 2
    return min(all_threads, max(1, int(multiply_adds / _PER_THREAD)))


def complete(answer: Answer) -> bool:
    """Whether every image that a request named was labelled."""
    return not any("error" in one or "skipped" in one for one in (answer, *answer.get("predictions", ())))


class _Malformed(Exception):
    """A request cannot be read; the text is for its author."""


def answer(labeller: Labeller, line: bytes, everything: bool) -> Answer:
    """Answer one request, a line of JSON. The answer to a malformed request has the key `error`."""
    identity: dict[str, Any] = {}
    try:
        request = _parsed(line)
        identity = {"id": request.pop("id")} if "id" in request else {}
        if len(request) != 1 or not request.keys() <= _READERS.keys():
            keys = ", ".join(map(repr, request)) or "none"
            raise _Malformed(
                f"a request has one of the keys 'path', 'paths', 'image', and may have 'id'; found: {keys}"
            )
        ((kind, value),) = request.items()
        return {**identity, **_READERS[kind](labeller, value, everything)}
    except _Malformed as malformed:
        return {**identity, "error": str(malformed)}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"not JSON: {error}; a request is {REQUEST_FORMS}") from None
    if not isinstance(request, dict):
        raise _Malformed(f"not a JSON object; a request is {REQUEST_FORMS}")
    return request


def _no_number(text: str) -> None:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{text} is not a JSON number")


def _one_path(labeller: Labeller, path: object, everything: bool) -> Answer:
    return _many_paths(labeller, [path], everything)["predictions"][0]  # type: ignore[no-any-return]


def _many_paths(labeller: Labeller, paths: object, everything: bool) -> Answer:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise _Malformed("a path is a string, and 'paths' a list of them")
    parts = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
    predictions = [
        prediction
        for part in parts
        for prediction in _labelled(labeller, part, [Path(path) for path in part], everything)
    ]
    return {"predictions": predictions}


def _image(labeller: Labeller, text: object, everything: bool) -> Answer:
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        content = None
    if content is None:
        raise _Malformed("'image' is not base64: encode the bytes of an image file")
    (prediction,) = _labelled(labeller, [""], [InMemory(content)], everything)
    return {**prediction, "path": None}


_READERS = {"path": _one_path, "paths": _many_paths, "image": _image}


def _labelled(
    labeller: Labeller, paths: Sequence[str], files: Sequence[ImageFile], everything: bool
) -> Iterator[dict[str, Any]]:
    items = [(k, (0,)) for k in range(len(files))]
    how = (labeller.square, labeller.rules, labeller.jpegs, labeller.device)
    decoded = read_here(files.__getitem__, items, *how)
    for prediction in label(labeller, paths, decoded):
        yield record(prediction, everything)
