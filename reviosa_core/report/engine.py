"""papermill's engine for our stages (`papermill --engine reviosa`): as its own, on sockets that are files, and what it
leaves reads as a page.

Jupyter finds a kernel's five TCP ports by asking for free ones and letting go of them again, a second before the kernel
takes them. Of two notebooks started at once, as rows of one table are, one in some five hundred pairs then asks for a
port of the other's, and dies (LOG.md). Files in a folder of its own cannot meet, and no other user can connect to them.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from papermill.engines import NBClientEngine
from traitlets.config import Config

from reviosa_core.report.executed import readable

# Otherwise a kernel that ends looks through all that torch and transformers made for garbage, which takes two seconds.
AT_ITS_END = "--IPKernelApp.exec_lines=import atexit, gc; atexit.register(gc.freeze); del atexit, gc"
LONGEST = 90  # bytes; what the kernel adds makes it 107 at most, which is all that fits a socket's address


class Engine(NBClientEngine):
    """A kernel listens in a temporary folder, or on ports as ever where TMPDIR's name is too long for that."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="reviosa-", ignore_cleanup_errors=True) as folder:
            fits = len(os.fsencode(folder)) < LONGEST  # of a longer one the kernel would die
            sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"} if fits else {})
            # tqdm's only switch for bars of text in a kernel: those that are widgets --log-output does not show.
            os.environ.setdefault("SPYDER_NO", "but the same bars")
            try:
                more = {"config": sockets, "extra_arguments": [AT_ITS_END]}
                super().execute_managed_notebook(nb_man, kernel_name, **more, **kwargs)
            finally:  # one that failed is read, too
                for cell in nb_man.nb.cells:
                    if cell.cell_type == "code":
                        cell.outputs = readable(cell.outputs)
