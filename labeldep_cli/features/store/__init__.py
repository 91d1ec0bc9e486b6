"""The feature store: what is computed from pixels alone, once for every image and every data set that holds it.

A store is a folder of segments, one HDF5 file each. It belongs to one `FeatureKind`: backbone, weights, preprocessing,
precision, pooled features or regions. `test-000001.h5` holds view 0, the test transform, of some images;
`crops-000001.h5` holds views 1 to 20, the crops of the training augmentation. Images are known by the SHA-256 of their
files' bytes: data sets, splits, labels and paths are not in here.

A segment under way is called NAME.h5.partial. When it is complete it gets its name, and is never written again: a store
grows by segments, so that all rows are readable at every moment. Of two rows of one image the later segment's counts.
Rows are removed by writing the others into a new segment; then the old one goes.

`known-files.sqlite`, beside the stores, remembers which file holds which bytes, by path, size and time of change.
"""
