"""The command `ricloud-connector`, and `python -m ricloud_connector`. Sets the environment, then loads everything."""

from __future__ import annotations

import gc
import os


def main() -> None:
    """Run the command."""
    # The library for NumPy's matrices starts threads when it is loaded, which look for work at full speed for a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # until all is loaded: nothing of it goes again
    from ricloud_connector.cli import main as run

    run()


if __name__ == "__main__":
    main()
