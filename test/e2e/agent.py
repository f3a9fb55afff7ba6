"""An agent with Python's requests. It takes one JSON object a line, each with an
id, and answers with one a line under that id, in whatever order things happen;
an event stream gives a line for each event and one for its end."""
import json
import sys
import threading

import requests

session = requests.Session()
session.trust_env = False
writing = threading.Lock()


def say(order, **facts):
    with writing:
        print(json.dumps({"id": order["id"], **facts}), flush=True)


def options(order):
    return {
        "headers": order.get("headers"), "timeout": 60, "allow_redirects": False, "verify": order["ca"],
        "proxies": {"http": order["proxy"], "https": order["proxy"]},
    }


def get(order):
    r = session.get(order["url"], **options(order))
    say(order, status=r.status_code, body=r.text, headers=dict(r.headers))


def follow(order):
    with requests.Session() as own:
        own.trust_env = False
        with own.get(order["url"], stream=True, **options(order)) as r:
            for line in r.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    say(order, event=line.decode())
            say(order, status=r.status_code)


def serve(order):
    try:
        {"get": get, "follow": follow}[order["do"]](order)
    except requests.RequestException as e:
        say(order, error=f"{type(e).__name__}: {e}")


for text in sys.stdin:
    threading.Thread(target=serve, args=(json.loads(text),), daemon=True).start()
