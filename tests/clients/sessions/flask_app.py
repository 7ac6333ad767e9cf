"""Flask-Session on redis-py: flask_app.py PORT HOST:PORT"""

import logging
import sys

import redis
from flask import Flask, jsonify, session
from flask_session import Session

PORT, NODE = sys.argv[1:3]
HOST, REDIS_PORT = NODE.split(":")
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
app = Flask(__name__)
app.logger.disabled = True
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(HOST, int(REDIS_PORT)))
Session(app)


@app.get("/visit")
def visit():
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


app.run("127.0.0.1", int(PORT), threaded=True)
