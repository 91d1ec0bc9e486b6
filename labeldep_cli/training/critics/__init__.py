"""The kinds of critic, one class each; `registry.CRITICS` lists them by the values of `--critic`."""
