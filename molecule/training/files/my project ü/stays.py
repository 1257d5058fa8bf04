"""Runs until somebody ends it, with two children, one of which has left the family."""

import subprocess
import time

children = [subprocess.Popen(["sleep", "100000"]), subprocess.Popen(["sleep", "100001"], start_new_session=True)]
print("children", *(child.pid for child in children))
for step in range(1_000_000):
    print("step", step)
    time.sleep(0.5)
