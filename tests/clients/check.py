"""The little harness of the Python scripts: counted checks, one summary line."""

import argparse
import sys


class Checks:
    """Counts checks. Each check makes one call, so that a failing one stops nothing else."""

    def __init__(self, name):
        self.name, self.context = name, ""
        self.passed = self.failed = 0

    def eq(self, want, call, *args, **kwargs):
        """The call returns `want`: the same type, the same value. Returns what came."""
        return self._run(
            lambda got: type(got) is type(want) and got == want, f"want {want!r:.200}", call, args, kwargs
        )

    def that(self, holds, call, *args, **kwargs):
        """The call returns something of which `holds` is true. Returns what came."""
        return self._run(holds, "unexpected reply", call, args, kwargs)

    def fails(self, kind, text, call, *args, **kwargs):
        """The call raises exactly `kind`, and its message starts with `text`."""
        label = self._label(call, args, kwargs)
        try:
            got = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever came is what is judged
            self._count(
                type(error) is kind and str(error).startswith(text),
                f"{label}: want {kind.__name__}({text!r}), got {type(error).__name__}({str(error)!r})",
            )
        else:
            self._count(False, f"{label}: want {kind.__name__}({text!r}), got {got!r:.200}")

    def group(self, function, *args):
        """Runs a group of checks; an exception between two checks ends only the group."""
        try:
            function(self, *args)
        except Exception as error:  # noqa: BLE001
            self._count(False, f"{function.__name__} ended early: {type(error).__name__}: {error}")

    def finish(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)

    def _run(self, holds, complaint, call, args, kwargs):
        label = self._label(call, args, kwargs)
        try:
            got = call(*args, **kwargs)
            self._count(holds(got), f"{label}: {complaint}, got {got!r:.200}")
            return got
        except Exception as error:  # noqa: BLE001
            self._count(False, f"{label}: {complaint}, raised {type(error).__name__}: {error}")
            return None

    def _label(self, call, args, kwargs):
        given = [f"{arg!r:.40}" for arg in args] + [f"{key}={value!r:.40}" for key, value in kwargs.items()]
        return f"{self.context}{getattr(call, '__name__', call)}({', '.join(given)})"

    def _count(self, good, complaint):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {complaint}", file=sys.stderr)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--ringwood", action="store_true", help="also the commands only Ringwood has")
    parser.add_argument("--cluster", action="store_true", help="the server is one of three nodes")
    return parser.parse_args()
