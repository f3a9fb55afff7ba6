"""An ordinary agent: Python's own HTTP client and the variables that exeat run
set, nothing else. It knows no key. Each thing it does is reported as one line
of JSON on standard output."""
import datetime
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request

TICKETS = "https://tickets.example.org/v1/tickets/"
API = os.environ["EXEAT_URL"]
TASK = os.environ["EXEAT_TASK"]


def report(step, **facts):
    print(json.dumps({"step": step, **facts}), flush=True)


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def api(path, body):
    request = urllib.request.Request(
        API + path, json.dumps(body).encode(),
        {"Content-Type": "application/json", "Exeat-Task-Credential": os.environ["EXEAT_TASK_CREDENTIAL"]})
    with urllib.request.urlopen(request, timeout=30) as r:
        return r.status, json.load(r)


def ask(capability, ttl, **params):
    began = time.monotonic()
    status, grant = api("/v1/grants", {"task": TASK, "capability": capability, "params": params, "ttl": ttl})
    return status, grant, (time.monotonic() - began) * 1000


def outlive(ticket):
    """Calls until the grant of ticket is over: the last call that was let out
    must have been before its end, the first denied one not before it. A call
    that is under way at that very moment is cut, with its connection."""
    _, grant, _ = ask("read-ticket", "2s", project="OPS", ticket=ticket)
    until = datetime.datetime.fromisoformat(grant["until"].replace("Z", "+00:00")).timestamp()
    calls, denied, late, early = 0, None, 0, 0
    while denied is None:
        sent = time.time()
        try:
            status, body = get(TICKETS + ticket)
        except (OSError, ValueError):  # no answer, or half of one
            early += time.time() < until
            continue
        if status == 200:
            calls += 1
            late += sent > until
        else:
            denied = {"status": status, "reason": body.get("reason"), "after": (time.time() - until) * 1000}
    report("expired", allowed=calls, late=late, early=early, **denied)


def stream(ticket):
    """Reads events until the task ends under it."""
    _, _, took = ask("watch-ticket", "2m", ticket=ticket)
    opened = urllib.request.urlopen(TICKETS + ticket + "/events", timeout=20)
    ended, events, first = [], [], threading.Event()

    def read():
        try:
            for line in opened:
                if line.startswith(b"data:"):
                    events.append(time.monotonic())
                    first.set()
        except Exception as e:  # how a cut looks depends on the client
            ended.append(type(e).__name__)
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    first.wait(20)
    began = time.monotonic()
    status, receipt = api("/v1/tasks/%s/complete" % TASK, {})
    answered = time.monotonic()
    reader.join(20)
    report("cut", status=status, events=len(events), open=reader.is_alive(), receipt=receipt,
           end_to_eof=(ended[-1] - began) * 1000 if ended else None,
           end_to_answer=(answered - began) * 1000)


def main(ticket, other):
    status, body = get(TICKETS + ticket)
    report("no-grant", status=status, body=body)
    status, grant, took = ask("read-ticket", "2m", project="OPS", ticket=ticket)
    report("granted", status=status, grant=grant, took=took)
    status, body = get(TICKETS + ticket)
    report("call", status=status, body=body)
    status, body = get(TICKETS + other)
    report("other", status=status, body=body)
    status, body = get(TICKETS + ticket, Authorization="Bearer forged-by-the-agent", Cookie="session=forged")
    report("forged", status=status, body=body)
    outlive("OPS-77")
    stream(ticket)


main(*sys.argv[1:])
