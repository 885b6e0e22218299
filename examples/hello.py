"""`hello.py` waits for greetings, `hello.py world` sends one; understands hello.c. The first argument may be another URL."""

import sys

import cuelight as cue

args = sys.argv[1:]
url = args.pop(0) if args and "://" in args[0] else "shm://demo/hello"
if args:
    cue.open(url, "w").send(args[0].encode())
else:
    for m in cue.open(url, "r"):
        print("hello,", bytes(m).decode(), flush=True)
