"""A trainer that runs until its exit code is decided.

usage: released.py FOLDER train CONFIG
Writes one line per launch to FOLDER/launches and ends with the code in FOLDER/<job id>.
"""

import os
import sys
import time

folder, job_id = sys.argv[1], os.getcwd().split("/")[-2]
file = os.open(f"{folder}/launches", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(file, f"{job_id}\n".encode())
while not os.path.exists(f"{folder}/{job_id}"):
    time.sleep(0.02)
with open(f"{folder}/{job_id}") as decided:
    sys.exit(int(decided.read()))
