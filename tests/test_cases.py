"""Label files as people have them: each is read right, or refused with a command that, pasted, reads it right."""

from __future__ import annotations

import pytest
from cases import MAKER

pytestmark = pytest.mark.skipif(not MAKER.is_file(), reason="the makers of cases (../shared/cases) are not beside this")

RIGHT, REMEDIED, REFUSED = "right", "remedied", "refused"

NAMES = ("beach", "boat", "dog", "person")
"""What the user writes where a file has numbers in place of names."""

MEANT = {
    "npz_never_positive": {"beach": 15, "boat": 20, "person": 19},
    "npz_always_positive": {"beach": 15, "boat": 20, "dog": 60, "person": 19},
    "npz_absent_in_train": {"beach": 15, "boat": 20, "dog": 11, "person": 19},
    "npz_all_one_label": {"boat": 60},
    "npz_label_unknown_in_train": {"beach": 15, "boat": 20, "person": 19},
    "npz_nan": {"beach": 14, "boat": 20, "dog": 21, "person": 18},
    "npz_int_names": {"0": 15, "1": 20, "2": 22, "3": 19},
}
"""Cases whose maker changes the labels after it has counted them: what is in the file, without the row of a NaN."""

REASONS = {
    "xlsx": "Save the sheet as CSV",
    "coco_list_root": "it is a list of results, which names no images",
    "jsonl_dup_key": "the key 'labels' is there twice",
    "npz_scipy_save": "it has no X, Y, label_names",
    "npz_list_of_lists": "holds Python objects",
    "npz_split_object": "holds Python objects",
    "npz_4d": "the shapes do not fit",
    "npz_transposed": "Y is transposed: save Y.T",
    "npz_train_test_keys": "it has x_train, y_train, x_test, y_test",
    "npz_all_zero": "no label is present in any row",
    "npz_all_unknown": "nothing is known",
    "npz_2rows": "cannot hold out a val split of 1 rows",
    "npy_pickle": "does not read files with the suffix '.pkl'",
    "h5_bool_split": "does not hold the expected arrays",
    "wds_cls": "has no labels",
}
"""Why a case is refused that no command reads: nobody but its owner can say what is meant."""
