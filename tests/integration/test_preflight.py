"""What stands in the way of a campaign on somebody's platform is said before it, all at once, with remedies."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import ThreadingHTTPServer

import msgspec
import pytest
import trustme

from fave.endpoints import Endpoints
from fave.errors import GatewayError, PlatformError
from fave.processes import free_port
from platforms.gateway import Gateway
from platforms.preflight import findings, refuse
from prom.client import Prometheus
from tests.support.cluster import Ways, _Handler, cluster_double, kubeconfig

pytestmark = pytest.mark.integration


@pytest.fixture
def double(tmp_path, monkeypatch):
    with cluster_double(Ways()) as (double, url):
        (tmp_path / "config").write_text(kubeconfig(url), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        double.url = url
        yield double


@pytest.fixture
def there(double, platform) -> Endpoints:
    """A gateway and a cluster, with the embedded platform's object store."""
    return msgspec.structs.replace(platform.endpoints, gateway_url=double.url, prometheus_url=double.url)


def test_where_all_is_well_nothing_is_said(there):
    assert findings(there, {"f": 128}) == []


def test_all_that_is_wrong_is_said_at_once_each_with_its_remedy(there, double):
    double.ways.forbidden = {"nodes", "events"}
    nowhere = f"http://127.0.0.1:{free_port()}"
    wrong = msgspec.structs.replace(there, gateway_url=nowhere, prometheus_url=nowhere, secret_key="wrong")
    said = []
    with pytest.raises(PlatformError) as caught:
        refuse(wrong, {}, said.append)
    text = str(caught.value)
    for part in (f"gateway {nowhere} does not answer", "Prometheus at", "SignatureDoesNotMatch", "may not list nodes"):
        assert part in text
    assert text.count("remedy: ") == 4
    assert [line.split("\n")[0] for line in said] == ["note: Kubernetes: the account may not watch events"]


def test_functions_that_no_node_can_hold_are_named_before_anything_is_deployed(there):
    one, all_together = findings(there, {"small": 128, "huge": 20_000})
    assert one.what == "huge needs 20000 MB, and the largest node has 16384"
    assert all_together.what == "one replica of each function needs 20128 MB, and the nodes have 16384"


def test_a_quota_that_is_used_up_is_told(there, double):
    status = {"hard": {"limits.memory": "1Gi"}, "used": {"limits.memory": "768Mi"}}
    double.put("resourcequotas", "ADDED", {"metadata": {"name": "q"}, "status": status})
    (found,) = findings(there, {"f": 512})
    assert found.what == "one replica of each function needs 512 MB, and the quota leaves 256"


@contextlib.contextmanager
def over_tls(double, authority):
    """The double once more, behind a certificate of an authority of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"double": double}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_authority_of_ones_own_is_refused_until_its_certificate_is_named(double, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with over_tls(double, authority) as url:
        with pytest.raises(GatewayError, match=r"(?s)certificate is not trusted.*FAVE_CA_FILE"):
            Gateway(url).info()
        with pytest.raises(PlatformError, match=r"(?s)certificate is not trusted.*FAVE_CA_FILE"):
            Prometheus(url).up()
        monkeypatch.setenv("FAVE_CA_FILE", str(tmp_path / "ca.pem"))
        assert Gateway(url).info()["provider"]["provider"] == "faas-netes"
        assert Prometheus(url).up()
