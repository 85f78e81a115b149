"""Pictures per second of the Beam pipeline with 1 and 2 local worker processes, and the ratio.

    python benchmarks/beam.py --photos=FOLDER --iterations=8

Each count of workers is a run of `rnnc beam` of its own. `all` is with everything:
start of Beam and of the workers, imports, loading, the table. `working` is what remains when the
set is large: pictures over the seconds that workers spent on them, from the table. Every worker
has --threads threads, so the ratio is what a second process of the same size brings.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time

from absl import app, flags

_PHOTOS = flags.DEFINE_string("photos", None, "Folder or pattern of pictures.", required=True)
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Counts of worker processes.")
_THREADS = flags.DEFINE_integer("threads", 1, "Of TensorFlow, in each worker.", 1)
_ITERATIONS = flags.DEFINE_integer("iterations", 8, "Of the loop.", 1)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")


def main(argv):
    del argv
    print(f"{os.cpu_count()} cores, {_THREADS.value} threads a worker")
    print(" workers  pictures  failed    all /s  working /s  ratio")
    first = None
    for workers in map(int, _WORKERS.value):
        with tempfile.TemporaryDirectory() as folder:
            seconds, rows = _run(workers, folder)
        done = [float(row["seconds"]) for row in rows if not row["error"]]
        rate = workers * len(done) / sum(done)
        first = first or rate
        print(
            f"{workers:8}  {len(done):8}  {len(rows) - len(done):6}  {len(done) / seconds:8.3f}  "
            f"{rate:10.3f}  {rate / first:5.2f}",
            flush=True,
        )


def _run(workers, folder):
    """Seconds of one run, and the rows of its table."""
    arguments = [
        "encode",
        f"--input={_PHOTOS.value}",
        f"--output={folder}",
        f"--iterations={_ITERATIONS.value}",
        f"--direct_num_workers={workers}",
    ]
    if _PRESET.value:
        arguments.append(f"--preset={_PRESET.value}")
    command = [sys.executable, "-m", "rnn_codec", "beam", *arguments]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(_THREADS.value),
        "TF_NUM_INTRAOP_THREADS": str(_THREADS.value),
        "TF_NUM_INTEROP_THREADS": "1",
    }
    start = time.monotonic()
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - start
    table = os.path.join(folder, "results.csv")
    if not os.path.exists(table):
        sys.exit(f"expected a table of the run with {workers} workers; it wrote {result.stderr}")
    with open(table, encoding="utf-8", newline="") as file:
        return seconds, list(csv.DictReader(file))


if __name__ == "__main__":
    app.run(main)
