"""Streams of redis-py, and queues that are made of them and of lists: rq, Celery. streams.py HOST PORT [--cluster]

With --cluster the same port of 127.0.0.1 to 127.0.0.3 is a node each, and every other call goes through another.
"""

import sys
import threading
import time

import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from redis.exceptions import ResponseError
from rq import Queue, Retry, SimpleWorker

from check import Checks
from rq_jobs import ATTEMPTS, double, shaky


def text(value):
    """What came, with text instead of bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [text(one) for one in value]
    if isinstance(value, dict):
        return {text(key): text(one) for key, one in value.items()}
    return value


def entries(read):
    """The entries of one stream, in either protocol's shape."""
    read = text(read)
    (pairs,) = read.values() if isinstance(read, dict) else [read[0][1]]
    pairs = pairs[0] if pairs and isinstance(pairs[0][0], list) else pairs
    return [tuple(pair) for pair in pairs]


def streams(t, clients):
    one, other = clients[0], clients[-1]
    t.eq(b"1-1", one.xadd, "s", {"f": "v"}, id="1-1")
    t.eq(b"2-1", other.xadd, "s", {"f": "w"}, id="2-1")
    t.eq(2, one.xlen, "s")
    t.eq([["1-1", {"f": "v"}], ["2-1", {"f": "w"}]], lambda: text(other.xrange("s")))
    t.eq([["2-1", {"f": "w"}]], lambda: text(other.xrevrange("s", count=1)))
    t.fails(ResponseError, "The ID specified in XADD is equal or smaller", one.xadd, "s", {"f": "x"}, id="1-1")
    t.eq(True, one.xgroup_create, "s", "g", id="0")
    t.fails(ResponseError, "BUSYGROUP", other.xgroup_create, "s", "g", id="0")
    t.eq([("1-1", {"f": "v"})], lambda: entries(other.xreadgroup("g", "c", {"s": ">"}, count=1)))
    t.eq([("2-1", {"f": "w"})], lambda: entries(one.xreadgroup("g", "d", {"s": ">"})))
    t.eq(2, lambda: other.xpending("s", "g")["pending"])
    t.eq(["c", "d"], lambda: sorted(text(one["consumer"]) for one in other.xpending_range("s", "g", "-", "+", 10)))
    t.eq(1, other.xack, "s", "g", "1-1")
    t.eq(["2-1"], lambda: text(one.xclaim("s", "g", "e", 0, ["2-1"], justid=True)))
    t.eq(2, lambda: other.xinfo_stream("s")["length"])
    t.eq(["g"], lambda: [text(group["name"]) for group in one.xinfo_groups("s")])
    got = []
    waiter = threading.Thread(target=lambda: got.extend(entries(other.xread({"s": "$"}, block=5000))))
    waiter.start()
    time.sleep(0.3)
    t.eq(b"3-1", one.xadd, "s", {"f": "late"}, id="3-1")
    waiter.join(10)
    t.eq([("3-1", {"f": "late"})], lambda: got)
    t.eq(1, one.xtrim, "s", maxlen=2, approximate=False)
    t.eq(1, other.xdel, "s", "3-1")
    with one.pipeline() as pipe:
        pipe.xadd("s", {"f": "x"}, id="9-1").xlen("s").xdel("s", "9-1")
        t.eq([b"9-1", 2, 1], pipe.execute)


def queues_of_rq(t, clients):
    one, other = clients[0], clients[-1]
    queue = Queue("rq", connection=one)
    jobs = [queue.enqueue(double, number) for number in range(20)]
    retried = queue.enqueue(shaky, retry=Retry(max=5))
    after = queue.enqueue(double, 100, depends_on=jobs[0])
    worker = SimpleWorker(["rq"], connection=other)
    worker.log.disabled = True
    t.eq(True, worker.work, burst=True, logging_level="CRITICAL")
    t.eq([number * 2 for number in range(20)], lambda: [job.return_value(refresh=True) for job in jobs])
    t.eq(3, lambda: retried.return_value(refresh=True))
    t.eq(200, lambda: after.return_value(refresh=True))
    t.eq(0, lambda: queue.count)


def tasks_of_celery(t, nodes, port):
    app = Celery(
        "tasks", broker=f"redis://{nodes[0]}:{port}/1", backend=f"redis://{nodes[-1]}:{port}/2", set_as_current=False
    )
    app.conf.update(
        task_default_queue="tasks", broker_connection_retry_on_startup=True, worker_hijack_root_logger=False
    )

    @app.task(name="add")
    def add(a, b):
        return a + b

    @app.task(name="flaky", bind=True, max_retries=3)
    def flaky(self):
        if self.request.retries < 2:
            raise self.retry(countdown=0.1)
        return self.request.retries

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL"):
        results = [add.delay(number, 1) for number in range(20)]
        t.eq(list(range(1, 21)), lambda: [result.get(timeout=20) for result in results])
        t.eq(2, lambda: flaky.delay().get(timeout=20))
        late = time.monotonic()
        t.eq(5, lambda: add.apply_async((2, 3), countdown=0.5).get(timeout=20))
        t.that(lambda took: took >= 0.5, lambda: time.monotonic() - late)
        t.eq("SUCCESS", lambda: results[0].state)
        chain = add.s(1, 2) | add.s(3)
        t.eq(6, lambda: chain().get(timeout=20))


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"] if "--cluster" in sys.argv else [host]
    t = Checks("streams_py")
    for protocol in (2, 3):
        t.context = f"RESP{protocol} "
        clients = [redis.Redis(node, port, protocol=protocol) for node in nodes]
        clients[0].flushall()
        ATTEMPTS.clear()
        t.group(streams, clients)
        t.group(queues_of_rq, clients)
    t.context = ""
    t.group(tasks_of_celery, nodes, port)
    t.finish()


main()
