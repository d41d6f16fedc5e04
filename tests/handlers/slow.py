"""Takes SLEEP_S for every request."""

import os
import time


def handle(event, context):
    time.sleep(float(os.environ["SLEEP_S"]))
    return {"statusCode": 200, "body": "{}"}
