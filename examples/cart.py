"""A cart that two devices edit without seeing each other: cart.py [HOST [PORT]], any node of Ringwood.

The cart is one string, as JSON. Whoever writes it says what it had read (the context); what was written beside
that stays as a sibling, and the next reader puts the two together. Needs redis-py, as it is: `pip install redis`.
"""

import json
import sys

import redis


def read(store, key):
    """The cart, put together from all that was written, and the context that says so."""
    context, siblings = store.execute_command("SIBLINGS", key)
    together = {}
    for sibling in siblings:
        for item, count in json.loads(sibling).items():
            together[item] = max(count, together.get(item, 0))
    return together, context


def write(store, key, cart, context):
    """Puts a cart in the place of everything that its context has seen, and of nothing else."""
    store.execute_command("RESOLVE", key, context, json.dumps(cart), "EX", 30 * 24 * 3600)


def main(host="127.0.0.1", port=6379):
    store = redis.Redis(host, int(port), decode_responses=True)
    store.delete("cart:example")
    phone, phone_saw = read(store, "cart:example")
    laptop, laptop_saw = read(store, "cart:example")
    write(store, "cart:example", {**phone, "bread": 1}, phone_saw)
    write(store, "cart:example", {**laptop, "butter": 2}, laptop_saw)  # It has not seen the bread.
    cart, context = read(store, "cart:example")
    print("both are in it:", cart)
    write(store, "cart:example", cart, context)
    print("settled, as any Redis client reads it:", store.get("cart:example"))


if __name__ == "__main__":
    main(*sys.argv[1:])
