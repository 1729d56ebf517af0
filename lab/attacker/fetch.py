"""``python3 fetch.py URL``: one GET from here; prints ``status`` (null: no answer) and ``body`` as JSON.

A program of its own, standard library only, because it runs in the attacker's network namespace.
"""

import json
import sys
import urllib.error
import urllib.request

TIMEOUT = 4.0


def fetch(url: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return {"status": answer.status, "body": answer.read().decode(errors="replace")}
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code, "body": error.read().decode(errors="replace")}
    except OSError as error:
        return {"status": None, "body": str(error)}


if __name__ == "__main__":
    print(json.dumps(fetch(sys.argv[1])))
