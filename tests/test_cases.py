"""Label files as people have them: each is read right, or refused with a command that, pasted, reads it right."""

from __future__ import annotations

import pytest
from cases import MAKER, attempt, label_cases

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
    "coco_no_categories": {"label1": 8, "label2": 7, "label3": 6, "label4": 10},
    "npz_int_names": {"0": 15, "1": 20, "2": 22, "3": 19},
}
"""What is in the file where its maker changes the labels after counting them, or where the file has no names; the row
with a NaN is left out."""

READ = """
posters_genre_only cell_json cell_braces cell_trailing cell_dup names_odd names_odd_columns names_numeric
header_upper labels_plus_extra label_column_numeric csv_bom csv_cr csv_blank_lines csv_space_line csv_100_columns
csv_leading_blanks_header folder_upper val_True val_true val_0_minus1 labelstudio_csv_renamed coco_plain
coco_string_ids coco_gap_ids coco_crowd_rle coco_unused_categories coco_subfolders split_subset
split_valid split_validation split_dev split_upper split_Split split_only_train_val dup_content dup_reencoded
dup_drawn npz_bool npz_float npz_bytes_names npz_one_label npz_one_label_1d npz_never_positive npz_always_positive
npz_absent_in_train npz_all_one_label npz_5rows npz_L2000 npz_ids npz_split_valid npz_duplicate_rows
npz_const_feature wds_valid wds_dots_mixed wds_avif_cls tiny_float_tiff blank_images h5_plain names_markup
names_ansi names_html npz_sig wds_avif_heic npz_f64_huge npz_f64_70000 npz_X_uint8_images npz_sig_outlier npz_sig_scale
"""
"""Cases that are read as they are. All others stop with a question, and one of the commands reads them right."""

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


@pytest.mark.parametrize("name", label_cases() if MAKER.is_file() else [])
def test_no_file_is_read_wrong(tmp_path, name):
    outcome = attempt(name, tmp_path, MEANT.get(name), NAMES)
    if name in REASONS:
        assert outcome.kind == REFUSED and REASONS[name] in outcome.words, outcome
    else:
        assert outcome.kind == (RIGHT if name in READ.split() else REMEDIED), outcome
