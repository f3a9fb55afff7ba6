"""An agent with Python's requests. It takes one JSON object a line and answers
with one a line; an event stream gives a line for each event and one for its
end. It knows what its environment says, unless it is told of a proxy."""
import json
import os
import sys

import requests

session = requests.Session()


def say(**facts):
    print(json.dumps(facts), flush=True)


def options(order):
    out = {"headers": order.get("headers"), "timeout": 60, "allow_redirects": False}
    if order.get("proxy"):
        out["proxies"] = {"http": order["proxy"], "https": order["proxy"]}
    if order.get("ca"):
        out["verify"] = order["ca"]
    return out


def get(order):
    r = session.get(order["url"], **options(order))
    say(status=r.status_code, body=r.text, headers=dict(r.headers))


def follow(order):
    with session.get(order["url"], stream=True, **options(order)) as r:
        if r.status_code != 200:
            say(status=r.status_code, body=r.text)
            return
        for line in r.iter_lines(chunk_size=1):
            if line.startswith(b"data:"):
                say(event=line.decode())


for text in sys.stdin:
    order = json.loads(text)
    if order.get("trust_env") is not None:
        session.trust_env = order["trust_env"]
    try:
        {"get": get, "follow": follow}[order["do"]](order)
        if order["do"] == "follow":
            say(over="end")
    except requests.RequestException as e:
        say(over=type(e).__name__, error=str(e))
