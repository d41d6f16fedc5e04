"""Takes SLEEP_S for every request; answers 503 to the first REFUSED attempts of it."""

import os
import time


def handle(event, context):
    time.sleep(float(os.environ["SLEEP_S"]))
    headers = {name.lower(): value for name, value in event.headers.items()}
    if int(headers.get("x-fave-attempt", 1)) <= int(os.environ.get("REFUSED", 0)):
        return {"statusCode": 503, "body": "not yet"}
    return {"statusCode": 200, "body": "{}"}
