"""What the programs seen_*.py have in common."""

import inspect
import sys


def show(label, call):
    try:
        result = call()
        if "numpy" in sys.modules and isinstance(result, sys.modules["numpy"].ndarray):
            result = type(result).__name__, result.shape, str(result.dtype), result.flags.writeable, result.ravel()[:5].tolist()
        print(label, result)
    except Exception as error:
        print(label, "raises", type(error).__name__)


def show_signature(function):
    ignored = "track", "unlink", "raise_on_error"  # which not all versions have
    rows = [(p.name, p.kind.name, str(p.default)) for p in inspect.signature(function).parameters.values() if p.name not in ignored]
    print(function.__name__, [r for r in rows if r[1] != "KEYWORD_ONLY"], sorted(r for r in rows if r[1] == "KEYWORD_ONLY"))
