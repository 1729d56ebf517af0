"""``doctor``: what will work tonight, and what will not. Small checks; each says what it saw and what to do.

Nothing is changed: writes are dry runs, and a TokenRequest is never among them, as its dry run mints a working token.
"""

from ringfence.response.readiness.examine import Site, examine
from ringfence.response.readiness.findings import Finding, Level, exit_code

__all__ = ["Finding", "Level", "Site", "examine", "exit_code"]
