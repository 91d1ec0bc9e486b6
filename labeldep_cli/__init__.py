"""labeldep: multi-label classification that knows which labels go together.

An implementation of "Adversarial Learning of Label Dependency" (Tsai & Lee) as a command line and a small library.
Importing this package imports neither torch nor numpy: what it offers is loaded when it is first asked for.
"""

import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["FeatureCache", "LabelDependencyLoss", "LabeldepError", "__version__", "load", "load_features"]

# Spinning OpenMP threads make a critic step many times slower as soon as another process wants a core; passive ones
# sleep. It has to be said before torch is imported, and a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from labeldep_cli.api import FeatureCache, LabelDependencyLoss, LabeldepError, load, load_features
else:  # a type checker would take any name for one of this package's

    def __getattr__(name: str) -> object:
        """Load one of the public names from `labeldep_cli.api` (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from labeldep_cli import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        """The public names, loaded or not."""
        return sorted({*globals(), *__all__})
