"""The queue in front of the workers. There are none here, so images wait."""

import asyncio

import httpx
from serving import picture, png

from mit_semseg.serve.app import build_app
from mit_semseg.serve.engine import Engine, Limits
from mit_semseg.serve.messages import Model
from mit_semseg.serve.metrics import Metrics

IMAGE = png(picture())


def run(scenario, token="", **limits):
    """Run ``scenario(client, engine)`` against an application without workers."""

    async def go():
        engine = Engine(Limits(**limits), Metrics())
        engine.models = (Model("mine", "a + b", "cpu", ("one", "two"), ((0, 0, 0), (9, 9, 9))),)
        transport = httpx.ASGITransport(app=build_app(engine, token))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await asyncio.wait_for(scenario(client, engine), 20)

    asyncio.run(go())


def post(client, **options):
    return asyncio.ensure_future(client.post("/v1/segment", content=IMAGE, **options))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_images_beyond_the_limit_are_told_when_to_come_back():
    async def scenario(client, engine):
        waiting = [post(client) for _ in range(2)]
        await until(lambda: engine.queue_length == 2)
        refused = await post(client)
        assert refused.status_code == 429
        assert refused.json() == {"detail": "Too many images are waiting already. Try again later."}
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "semseg_queue_length 2.0" in (await client.get("/metrics")).text
        for request in waiting:
            request.cancel()
        await until(lambda: engine.queue_length == 0)

    run(scenario, max_queue=2)


def test_an_image_that_is_not_segmented_in_time_is_answered():
    async def scenario(client, engine):
        answer = await post(client)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "There was no answer within 0.2 s. Try again."
        assert "Retry-After" in answer.headers
        assert engine.queue_length == 0

    run(scenario, answer_s=0.2)


def test_an_image_whose_client_has_gone_leaves_the_queue():
    async def scenario(client, engine):
        body = {"type": "http.request", "body": IMAGE}
        leaves = asyncio.Event()

        async def receive(messages=iter([body])):  # noqa: B008  one message, then silence
            if (message := next(messages, None)) is None:
                await leaves.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/v1/segment", "headers": [], "query_string": b""}
        request = asyncio.ensure_future(client._transport.app(scope, receive, send))
        await until(lambda: engine.queue_length == 1)
        leaves.set()
        await request
        await until(lambda: engine.queue_length == 0)

    run(scenario)


def test_scores_that_would_not_fit_in_memory_are_refused():
    async def scenario(client, engine):
        answer = await post(client, params={"output": "scores"})
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith(
            "2 classes at 48 x 36 pixels have more scores than the limit"
        )

    run(scenario, max_scores=48 * 36)


def test_a_server_without_a_worker_is_alive_but_not_ready():
    async def scenario(client, engine):
        assert (await client.get("/healthz")).status_code == 200
        starting = await client.get("/readyz")
        assert (starting.status_code, starting.json()) == (503, {"status": "starting"})
        engine.draining = True
        assert (await client.get("/readyz")).json() == {"status": "draining"}

    run(scenario)


def test_the_token_guards_the_api_and_the_metrics_but_not_the_page():
    async def scenario(client, engine):
        for path in ("/v1/model", "/metrics"):
            without = await client.get(path)
            assert without.status_code == 401
            assert without.headers["WWW-Authenticate"] == "Bearer"
            assert without.json()["detail"] == "A token is needed: Authorization: Bearer TOKEN."
            for wrong in ("Bearer secre", "Bearer secret2", "Basic secret", "secret", "Bearer \xe9"):
                headers = {"Authorization": wrong.encode("latin-1")}
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.json()["detail"]) == (401, "The token is wrong.")
            for right in ("Bearer secret", "bearer secret"):
                assert (await client.get(path, headers={"Authorization": right})).status_code == 200
        assert (await post(client)).status_code == 401
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
        for path, method in (("/v1/segment", "post"), ("/v1/model", "get"), ("/metrics", "get")):
            assert document["paths"][path][method]["security"] == [{"HTTPBearer": []}]
        for path in ("/", "/healthz", "/readyz", "/page/script.js"):
            assert (await client.get(path)).status_code in (200, 503)

    run(scenario, token="secret")
