"""The demo as a whole (examples/wordcount): the rows job.* and demo.down. A round is a run of it, whatever seconds are asked for.

    job.py wordcount|handover block|pipe INPUT     bytes of input a second
    job.py read alone INPUT                        the same for a program that only reads the input
    job.py down kill INPUT                         from the SIGKILL of a worker to its DOWN

INPUT is `files`, what `make demo` reads (the environment's INPUT names other folders), or `1m`, the same bytes in files of 1 MiB.
Programs and input are the same for every transport, only --transport differs. Short rounds (QUICK=1) read less of it.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from side import rounds, say

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ["BUILD"])
WORDCOUNT = BUILD / "bin" / "examples" / "wordcount"
FOLDERS = ["/usr/share/doc", "/usr/share/common-licenses", "/usr/include"]
REPORT = ["--", os.environ["PYTHON"], str(ROOT / "examples" / "wordcount" / "report.py"), "--top", "0"]
MIB = 1 << 20
PACKED_MIB = 256


def folders(quick: bool) -> list[str]:
    given = os.environ.get("INPUT", "").split()
    return given or (["/usr/include/linux"] if quick else [folder for folder in FOLDERS if os.path.isdir(folder)])


def contents(roots: list[str]) -> Iterator[bytes]:
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = pathlib.Path(folder, name)
                if path.suffix != ".gz" and path.is_file() and not path.is_symlink():
                    yield path.read_bytes()


def packed() -> str:
    """A folder with the demo's input in files of 1 MiB, at most 256 of them; made once."""
    folder = pathlib.Path(os.environ["RESULTS"]) / "input-1m"
    if folder.is_dir():
        return str(folder)
    making = folder.with_name(f"input-1m.{os.getpid()}")
    making.mkdir(parents=True)
    rest, number = b"", 0
    for content in contents(folders(False)):
        rest += content
        while len(rest) >= MIB and number < PACKED_MIB:
            (making / f"{number:04}").write_bytes(rest[:MIB])
            rest, number = rest[MIB:], number + 1
        if number == PACKED_MIB:
            break
    try:
        making.rename(folder)
    except OSError:  # another side was quicker
        subprocess.run(["rm", "-r", str(making)], check=True)
    return str(folder)


def run(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    kind, transport, source = sys.argv[1:4]
    program = BUILD / "bench" / "reading" if kind == "read" else WORDCOUNT
    if not program.exists():
        sys.exit(f"{program} was not built")
    one_mib = packed() if source == "1m" else None
    for seed, seconds in enumerate(rounds("wordcount", ""), 1):
        roots = [one_mib] if one_mib else folders(seconds < 0.1)
        command = [str(program), "--json", f"--pool=bench-{os.getpid()}"]
        if kind == "read":
            result = run([str(program), *roots])
        elif kind == "down":
            result = run([*command, f"--kill={seed}", *roots, *REPORT])
        elif kind == "handover":
            result = run([*command, f"--transport={transport}", "--no-count", *roots])
        else:
            result = run([*command, f"--transport={transport}", *roots, *REPORT])
        say(value=result["down_ms"] * 1e6 if kind == "down" else result["bytes"] / result["seconds"] / 1e6)


if __name__ == "__main__":
    main()
