"""Every call of the API by the official Python client, from 1.109 to the newest.

The order of the imports is that of the checks: later ones use the job of an earlier one.
"""

# isort: off
import calls_files  # noqa: F401
import calls_jobs  # noqa: F401
import calls_inference  # noqa: F401
import calls_background  # noqa: F401
import calls_last  # noqa: F401
from checks import run
# isort: on

run()
