"""A training run in small: reads by a relative path, prints as it goes, leaves results with odd names."""

import os
import pathlib
import sys
import time

words = pathlib.Path("däta/words.txt").read_text(encoding="utf-8").split()
print("arguments", sys.argv[1:])
print("secret has", len(os.environ["TOKEN"]), "letters")
print("no new privileges:", "NoNewPrivs:\t1" in pathlib.Path("/proc/self/status").read_text(encoding="utf-8"))
for epoch in range(3):
    print(f"epoch {epoch} ünïcode", len(words))
    time.sleep(0.5)
results = pathlib.Path("results")
(results / "run 1").mkdir(exist_ok=True)
(results / "run 1" / "metrics ü.json").write_text('{"mrr": 0.5}\n', encoding="utf-8")
(results / "model.bin").write_bytes(os.urandom(300_000))
