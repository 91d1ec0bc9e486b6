"""labeldep: multi-label classification that knows which labels go together.

An implementation of "Adversarial Learning of Label Dependency" (Tsai & Lee) as a command line and a small library.
Importing this package imports neither torch nor numpy.
"""

import os

__version__ = "0.1.0"

# Spinning OpenMP threads make a critic step many times slower as soon as another process wants a core; passive ones
# sleep. It has to be said before torch is imported, and a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
