"""What people write with plain Locust when they want a rate: many users with `constant_throughput`."""

from __future__ import annotations

from locust import FastHttpUser, constant_throughput, task


class Plain(FastHttpUser):
    wait_time = constant_throughput(10)

    @task
    def request(self) -> None:
        self.client.post("/function/stage-object-detector", data=b'{"x":1}')
