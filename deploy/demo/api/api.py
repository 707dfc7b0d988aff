"""The demo's application: orders in PostgreSQL, a basket per customer in Redis.

GET and POST /orders (rows) and /baskets (keys) speak JSON arrays; GET /health asks both stores.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pg8000.dbapi
import redis


def database():
    return pg8000.dbapi.connect(
        user="demo", database="demo", host="postgres", password=os.environ["POSTGRES_PASSWORD"]
    )


def baskets():
    return redis.Redis("redis", decode_responses=True)


def read_orders():
    with database() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id, customer, cents FROM orders ORDER BY id")
        return [
            {"id": id_, "customer": customer, "cents": cents} for id_, customer, cents in cursor.fetchall()
        ]


def write_orders(orders):
    with database() as connection:
        cursor = connection.cursor()
        cursor.executemany(
            "INSERT INTO orders (id, customer, cents) VALUES (%s, %s, %s)",
            [(order["id"], order["customer"], order["cents"]) for order in orders],
        )
        connection.commit()


def read_baskets():
    store = baskets()
    keys = sorted(store.scan_iter("basket:*"))
    return [{"customer": key.removeprefix("basket:"), "items": store.get(key)} for key in keys]


def write_baskets(written):
    store = baskets()
    for basket in written:
        store.set(f"basket:{basket['customer']}", basket["items"])


def health():
    with database() as connection:
        connection.cursor().execute("SELECT 1")
    baskets().ping()
    return "ok"


READ = {"/orders": read_orders, "/baskets": read_baskets, "/health": health}
WRITE = {"/orders": write_orders, "/baskets": write_baskets}


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path in READ:
            self.answer(200, READ[self.path]())
        else:
            self.answer(404, "not found")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in WRITE:
            WRITE[self.path](body)
            self.answer(201, len(body))
        else:
            self.answer(404, "not found")

    def answer(self, status, body):
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Health checks every second would be all there is to read."""


if __name__ == "__main__":
    # process 1 ignores the signal unless told
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("", 8080), Api).serve_forever()
