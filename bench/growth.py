#!/usr/bin/env python3
"""How the pool's figures grow with the number of live blocks: 10^2, 10^4, 10^6. Writes growth.json, and growth.png if matplotlib is
there, beside bench.json, and prints a table.

    ROUNDS=5 bench/growth.py

BUILD and RESULTS are as for bench/run. The sides of a figure, one for each number of blocks, take turns as there.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build" / "release").resolve()
RESULTS = pathlib.Path(os.environ.get("RESULTS") or ROOT / "build").resolve()
ROUNDS = int(os.environ.get("ROUNDS") or 5)
SECONDS = 0.3
LIVE = (100, 10_000, 1_000_000)
FIGURES = {  # case: what, whether it is for all blocks together
    "pair": ("alloc and free of 64 B", False),
    "id": ("look-up by id, at random", False),
    "type_id": ("look-up by (type, id), at random", False),
    "iterate": ("looking at all, a block", True),
    "recover": ("recovery of a killed owner, a block", True),
}


def side(case: str) -> subprocess.Popen:
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    env = {**os.environ, "CUE_PREFIX": f"{os.environ.get('CUE_PREFIX') or 'cuelight'}-growth-{os.getpid()}"}
    command = [str(BUILD / "bench" / "pool"), case, "--cpus", cpus]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    child.stdout.readline()
    return child


def measure(case: str) -> list[float]:
    """Nanoseconds at each of LIVE."""
    sides = [side(f"among.{case}.{n}") for n in LIVE]
    rounds: list[list[float]] = [[] for _ in LIVE]
    for number in range(ROUNDS + 1):
        for child, figures in zip(sides, rounds, strict=True):
            child.stdin.write(f"{SECONDS}\n")
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                raise SystemExit(f"{case}: a side ended, status {child.wait()}")
            if number:  # the first one warms up
                figures.append(json.loads(line)["value"])
    for child in sides:
        child.stdin.close()
        child.wait()
    each = [statistics.median(figures) for figures in rounds]
    return [ns / n if FIGURES[case][1] else ns for ns, n in zip(each, LIVE, strict=True)]


def plot(report: dict) -> bool:
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for case, values in report["ns"].items():
        axes.plot(LIVE, values, marker="o", label=FIGURES[case][0])
    axes.set(xscale="log", yscale="log", xlabel="live blocks", ylabel="ns", title=f"load {report['load']:.1f}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(RESULTS / "growth.png", dpi=120)
    return True


def main() -> int:
    report = {"live": LIVE, "load": os.getloadavg()[0], "ns": {}}
    print("ns".ljust(40), *(f"{n:>10}" for n in LIVE))
    for case, (what, _) in FIGURES.items():
        report["ns"][case] = measure(case)
        print(what.ljust(40), *(f"{ns:10.1f}" for ns in report["ns"][case]), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "growth.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {RESULTS / 'growth.json'}{' and growth.png' if plot(report) else '; no matplotlib, no picture'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
