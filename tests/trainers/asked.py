"""saving.py with as many steps as the job asks for, or 8; kinds.py at once for other kinds of jobs.

usage: asked.py SECONDS_PER_STEP SAVE_EVERY train|export|evaluate|download CONFIG
"""

import json
import os
import runpy
import sys

kind, config = sys.argv[-2:]
if kind == "train":
    with open(config) as file:
        sys.argv.insert(1, str(json.load(file).get("max_steps", 8)))
else:
    sys.argv[1:] = [os.getcwd(), "0", kind, config]
program = "saving.py" if kind == "train" else "kinds.py"
runpy.run_path(os.path.join(os.path.dirname(__file__), program), run_name="__main__")
