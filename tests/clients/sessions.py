"""Sessions of web applications on three nodes, each of which is killed and started again in turn.

    sessions.py RINGWOOD NODE_SCRIPTS [PROGRAM ...]

Each program of sessions/ runs three times, each time on a node of its own, as behind a load balancer. Browsers
visit one after the other; a visit counts one up in the browser's session. Checked is

- that no visit fails but those through the node that is gone,
- that no session forgets a visit that it was told of, and none counts one that there was not,

and with programs that lock their sessions (PHP) that this holds for two visits of one session at a time.
"""

import http.client
import http.cookies
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from check import Checks

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
# Of each program.
BROWSERS = 8
# A visit that takes longer has failed.
PATIENCE = 15
# Between two changes of a node, in seconds.
LIVES, IS_GONE, COMES_BACK = 2, 3, 3
# A client may notice so late that its node is back, in seconds.
NOTICES = 3


def free_port(hosts=("127.0.0.1",)):
    """A port that is free on all of these."""
    while True:
        sockets = [socket.socket() for _ in hosts]
        try:
            port = 0
            for one, host in zip(sockets, hosts):
                one.bind((host, port))
                port = one.getsockname()[1]
            return port
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()


def until(what, holds, patience=60):
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {patience} s")
        time.sleep(0.05)


# Whatever was started, in process groups of its own.
STARTED = []


def start(words, log, environment=None):
    process = subprocess.Popen(
        words, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(environment or {})}
    )
    STARTED.append(process)
    return process


def stop_all():
    for process in STARTED:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It had ended, with all its children.
        process.wait()


def answers(host, port):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


class Node:
    """A node, with the spans in which it was not there."""

    def __init__(self, program, host, port, peer_port, directory):
        self.host, self.port = host, port
        self.gone = []
        self.command = [
            program, "server", "--bind", host, "--port", str(port), "--dir", f"{directory}/{host}",
            "--cluster-enabled", "yes", "--cluster-secret", "sessions", "--peer-bind", host,
            "--peer-port", str(peer_port), "--seeds", f"{HOSTS[0]}:{peer_port}", "--node-name", host,
            "--loglevel", "warning",
        ]  # fmt: skip
        self.log = open(f"{directory}/{host}.log", "ab")
        self.start()

    def start(self):
        self.process = start(self.command, self.log)
        until(f"{self.host} answers", lambda: answers(self.host, self.port))

    def kill(self):
        self.gone.append([time.monotonic(), float("inf")])
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.start()
        self.gone[-1][1] = time.monotonic()

    def knows_three(self):
        with socket.create_connection((self.host, self.port), 5) as client:
            client.sendall(b"CLUSTER INFO\r\n")
            return b"cluster_answering_nodes:3" in client.recv(65536)

    def was_gone(self, begin, end, notices=0):
        return any(begin <= back + notices and left <= end for left, back in self.gone)


class App:
    """A program, on one node."""

    def __init__(self, command, node, directory, environment):
        self.node, self.port = node, free_port()
        words = [word.format(port=self.port, host=node.host, node=f"{node.host}:{node.port}") for word in command]
        self.log = open(f"{directory}/apps.log", "ab")
        start(words, self.log, environment)
        until(f"{words} answers", lambda: answers("127.0.0.1", self.port))


class Browser:
    """A session: where it stands, and what happened to its visits."""

    def __init__(self):
        self.cookies = http.cookies.SimpleCookie()
        self.lock = threading.Lock()
        # Visits that were counted, and that may have been.
        self.counted = self.doubtful = 0
        self.highest = 0
        self.faults = []

    def visit(self, app):
        with self.lock:
            least = self.highest + 1
        begin = time.monotonic()
        try:
            visits, cookies = self.ask(app)
        except Exception as error:  # noqa: BLE001 - whatever came is what is judged
            with self.lock:
                self.doubtful += 1
                if not app.node.was_gone(begin, time.monotonic(), NOTICES):
                    self.faults.append(f"a visit through {app.node.host} failed: {type(error).__name__}: {error}")
            time.sleep(0.1)
            return
        with self.lock:
            if visits < least and app.node.was_gone(begin, time.monotonic()):
                # Django takes a session that it cannot read for a new one: that browser would be at the login again.
                self.doubtful += 1
                return
            self.counted += 1
            if visits < least:
                self.faults.append(f"{visits} visits, when at least {least} there were, through {app.node.host}")
            self.highest = max(self.highest, visits)
            for cookie in cookies:
                self.cookies.load(cookie)

    def ask(self, app):
        """How many visits the application counts, and the cookies that it sets."""
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=PATIENCE)
        try:
            with self.lock:
                cookies = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in self.cookies.items())
            connection.request("GET", "/visit", headers={"Cookie": cookies} if cookies else {})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise OSError(f"{answer.status} {body[:200]!r}")
            return json.loads(body)["visits"], answer.headers.get_all("Set-Cookie") or []
        finally:
            connection.close()

    def judge(self):
        if not self.counted <= self.highest <= self.counted + self.doubtful:
            self.faults.append(f"{self.counted} visits were counted, {self.highest} are told of")
        return self.faults


def browse(browser, apps, at, ends):
    """Visits through one node after the other."""
    for app in itertools.islice(itertools.cycle(apps), at, None):
        if ends.is_set():
            return
        browser.visit(app)
        time.sleep(0.01)


def programs(node_scripts):
    """Each with how it is started, its environment, and how many visits of a session there may be at a time."""
    ini = {
        "session.save_handler": "redis", "session.save_path": '"tcp://{node}?timeout=5&read_timeout=5"',
        "redis.session.locking_enabled": "1", "redis.session.lock_expire": "5",
        "redis.session.lock_retries": "400", "redis.session.lock_wait_time": "20000", "max_execution_time": "30",
    }  # fmt: skip
    php = [word for name, value in ini.items() for word in ("-d", f"{name}={value}")]
    python = [sys.executable]
    return {
        "express": (["node", f"{node_scripts}/sessions/express.mjs", "{port}", "{node}"], {}, 1),
        "koa": (["node", f"{node_scripts}/sessions/koa.mjs", "{port}", "{node}"], {}, 1),
        "django": (python + [f"{HERE}/sessions/django_app.py", "{port}", "{node}"], {}, 1),
        "flask": (python + [f"{HERE}/sessions/flask_app.py", "{port}", "{node}"], {}, 1),
        "php": (
            ["php", *php, "-S", "127.0.0.1:{port}", f"{HERE}/sessions/visits.php"],
            {"PHP_CLI_SERVER_WORKERS": str(2 * BROWSERS)},
            2,
        ),
        "rack": (["ruby", f"{HERE}/sessions/rack.rb", "{port}", "{node}"], {}, 1),
    }


def run(t, program, node_scripts, names, directory):
    port, peer_port = free_port(HOSTS), free_port(HOSTS)
    nodes, threads, browsers, ends = [], [], {}, threading.Event()
    try:
        for host in HOSTS:
            nodes.append(Node(program, host, port, peer_port, directory))
        for node in nodes:
            until("a cluster", node.knows_three)
        for name, (command, environment, at_once) in programs(node_scripts).items():
            if names and name not in names:
                continue
            of_program = [App(command, node, directory, environment) for node in nodes]
            browsers[name] = [Browser() for _ in range(BROWSERS)]
            for nth, browser in enumerate(browsers[name]):
                browser.visit(of_program[nth % 3])  # A session that two could begin at a time would be two.
                threads += [
                    threading.Thread(target=browse, args=(browser, of_program, nth + one, ends), daemon=True)
                    for one in range(at_once)
                ]
        for thread in threads:
            thread.start()
        for node in nodes:
            time.sleep(LIVES)
            node.kill()
            time.sleep(IS_GONE)
            node.restart()
            time.sleep(COMES_BACK)
        ends.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
    finally:
        stop_all()
    for name, of_program in browsers.items():
        t.context = f"{name}: "
        for browser in of_program:
            t.eq([], browser.judge)
        visits, doubtful = sum(b.counted for b in of_program), sum(b.doubtful for b in of_program)
        t.that(lambda count: count > 100, lambda: visits)
        print(f"sessions: {name}: {visits} visits of {BROWSERS} sessions, {doubtful} through a node that was gone")


def main():
    program, node_scripts, *names = sys.argv[1:]
    t = Checks("sessions")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as directory:
        t.group(lambda t: run(t, program, node_scripts, names, directory))
        if t.failed:
            for log in sorted(os.listdir(directory)):
                if log.endswith(".log"):
                    # PHP's server tells of every connection.
                    lines = [line for line in open(f"{directory}/{log}", errors="replace") if "127.0.0.1:" not in line]
                    print(f"--- {log}\n{''.join(lines[-40:])}", file=sys.stderr)
    t.finish()


main()
