"""labeldep: multi-label classification that knows which labels go together.

An implementation of "Adversarial Learning of Label Dependency" (Tsai & Lee) as a command line and a small library.
Importing this package imports neither torch nor numpy; its names are loaded when they are first used.
"""

import os
from typing import TYPE_CHECKING

__version__ = "0.2.0"

__all__ = ["FeatureCache", "LabelDependencyLoss", "LabeldepError", "__version__", "load", "load_features"]

# Spinning OpenMP threads make a critic step many times slower as soon as another process needs a core; passive ones
# sleep. This must be set before torch is imported. A value that the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from labeldep_cli.api import FeatureCache, LabelDependencyLoss, LabeldepError, load, load_features
else:  # with __getattr__ in view, a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Load one of the public names from `labeldep_cli.api` (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from labeldep_cli import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        """The public names, loaded or not."""
        return sorted({*globals(), *__all__})
