"""From images to cached features: views, extraction, the HDF5 cache."""
