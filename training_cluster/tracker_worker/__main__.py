"""Makes this directory a package, whatever hides it, and does what argv says: serves the tracker it
names, or uploads the runs after `wandb sync`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from training_cluster.tracker_worker import serving
else:  # our files under a name of their own: they shall shadow nothing mlflow or wandb imports
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != _here]
    _spec = importlib.util.spec_from_file_location(
        "tracker_worker", os.path.join(_here, "__init__.py"), submodule_search_locations=[_here]
    )
    sys.modules["tracker_worker"] = importlib.util.module_from_spec(_spec)
    from tracker_worker import serving

if __name__ == "__main__":
    if sys.argv[1:3] == ["wandb", "sync"]:
        upload = importlib.import_module("tracker_worker.wandb_upload").upload
        sys.exit(1 if upload(sys.argv[3:]) else 0)
    serving.serve(sys.argv[1])
