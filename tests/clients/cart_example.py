"""examples/cart.py does what it says: cart_example.py HOST PORT."""

import contextlib
import io
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples"))
import cart

from check import Checks, arguments


def said(host, port):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        cart.main(host, port)
    return text.getvalue()


given = arguments()
t = Checks("cart_example")
both = '{"bread": 1, "butter": 2}', '{"butter": 2, "bread": 1}'
for _ in range(2):
    t.that(lambda text: any(text.endswith(f"reads it: {one}\n") for one in both), said, given.host, given.port)
t.finish()
