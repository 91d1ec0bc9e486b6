"""The kinds of critic: one class each, by the names of `--critic` in `registry.CRITICS`."""
