"""From images to stored features: views, decoding, extraction, and the feature store."""
