"""The feature store: features of images, computed once for each image, for all data sets that contain it.

A store is a folder of segments, one HDF5 file each. It belongs to one `FeatureKind`: backbone, weights, preprocessing,
precision, and whether the features are pooled or regions. `test-000001.h5` contains view 0, the test transform, of some
images. `crops-000001.h5` contains views 1 to 20, the crops of the training augmentation. Images are identified by the
SHA-256 of their files' bytes. Data sets, splits, labels and paths are not stored here.

An unfinished segment is called NAME.h5.partial. A complete segment gets its final name and is never changed: a store
grows by new segments, so all rows are readable at every moment. If an image has two rows, the row in the later segment
is used. To remove rows, the other rows are written into a new segment; then the old segment is deleted.

`known-files.sqlite`, in the folder of the stores, records the SHA-256 of each file by path, size and time of change.
"""
