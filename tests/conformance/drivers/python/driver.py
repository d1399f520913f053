"""The conformance driver of Python: `driver.py async` or `driver.py sync`. See ../../README.md.

It carries out what it is told with the public API and judges nothing. What the two flavours share is in `operations`: each
operation is a generator that yields what has to be waited for, and is sent what came of it.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    # As in a terminal, also where the runner was started in the background of a shell, which ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:] == ["sync"]:
        import threads

        sys.exit(threads.main())
    import aio

    sys.exit(aio.main())
