"""Requests that are refused: the status, and a message that says what to do."""

import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serving import MAX_BYTES, form, picture, png
from test_upload import claiming


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "?outptu=labels&x=1",
            "Unknown parameter: outptu, x. The parameters are model, output, include, alpha",
        ),
        (
            "?output=mask",
            "output is 'mask': should be 'json', 'labels', 'overlay', 'confidence' or 'scores'.",
        ),
        ("?alpha=2", "alpha is '2': should be less than or equal to 1."),
        ("?alpha=nan", "alpha is 'nan': should be"),
        (
            "?include=rle,mask",
            "include is 'rle,mask': 'mask' is not one of rle, labels, confidence, overlay.",
        ),
        ("?alpha=0&output=json&alpha=1", "Given more than once: alpha. Give each parameter once."),
        ("?model=mine", "model is 'mine', which is not served. The models are trained, other."),
    ],
)
def test_parameters(server, query, message):
    status, answer = server.segment(png(picture()), query)
    assert status == 422
    assert answer["detail"].startswith(message)


def test_fields_of_a_form(server):
    body, headers = form(png(picture()), outptu="labels")
    assert server.segment(body, headers=headers)[1]["detail"].startswith("Unknown parameter: outptu.")
    twice, _ = form(png(picture()), output="labels")
    status, answer = server.segment(twice, "?output=overlay", headers=headers)
    assert (status, answer["detail"]) == (422, "Given more than once: output. Give each parameter once.")
    body = body.replace(b'name="image"', b'name="photo"')
    status, answer = server.segment(body, headers=headers)
    assert (status, answer["detail"]) == (
        422,
        "The form has to have one file, called 'image'; its files are: photo.",
    )
    status, answer = server.segment(b"no form", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 422
    text = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nphoto.jpg\r\n--b--\r\n'
    status, answer = server.segment(text, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 422
    assert answer["detail"].endswith("With curl, write an @ before the path: -F image=@photo.jpg")
    status, answer = server.segment(b"no form", headers={"Content-Type": "multipart/form-data"})
    assert (status, answer["detail"]) == (422, "The form is damaged: Missing boundary in multipart.")


def hostile():
    """Names and bytes of uploads that are not intact images."""
    intact = png(picture(64, 64))
    file = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(file, "JPEG")
    jpeg = file.getvalue()
    yield "empty", b""
    yield "text", b"hello"
    yield "JSON", b"{}"
    yield "zeros", bytes(1000)
    yield "half a PNG file", intact[: len(intact) // 2]
    yield "a PNG header", intact[:33]
    yield "half a PNG signature", intact[:4]
    yield "a damaged PNG file", intact[:100] + bytes(200) + intact[300:]
    yield "half a JPEG file", jpeg[: len(jpeg) // 2]
    yield "a JPEG header", jpeg[:20]
    yield "a bomb", claiming(60_000, 60_000)
    yield "a larger bomb", claiming(2**31 - 1, 2**31 - 1)
    yield "too many bytes", bytes(MAX_BYTES + 1)
    for kind in ("GIF", "TIFF", "WEBP", "BMP"):
        file = io.BytesIO()
        Image.fromarray(picture(64, 64)).save(file, kind)
        yield f"half a {kind} file", file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(("name", "data"), [pytest.param(*pair, id=pair[0]) for pair in hostile()])
def test_an_upload_that_is_not_an_image(server, name, data):
    status, answer = server.segment(data)
    assert status in (413, 415), answer
    assert answer["detail"].startswith(("The upload ", "The body is too large: "))
    assert answer["detail"].endswith(".")
    assert "drop it" not in answer["detail"]  # which is advice for files of a list


def test_random_damage_never_fails_the_server(server):
    rng = np.random.Generator(np.random.Philox(11))
    file = io.BytesIO()
    Image.fromarray(picture(40, 30)).save(file, "JPEG")
    intact = [png(picture(40, 30)), file.getvalue()]

    def send(k):
        data = bytearray(intact[k % 2])
        for at in rng_positions[k]:
            data[at % len(data)] ^= 1 << (at % 8)
        return server.segment(bytes(data[: len(data) - (k % 5) * 50]))[0]

    rng_positions = rng.integers(0, 10**6, (60, 8))
    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(send, range(60)))
    assert statuses <= {200, 413, 415}
    assert server.segment(png(picture()))[0] == 200


def test_a_chunked_body_without_an_end_is_refused_at_the_limit(server):
    def endless():
        while True:
            yield bytes(10_000)

    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    with connection:
        connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for chunk in endless():
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        except OSError:
            pass  # the server has closed the connection
    assert server.segment(png(picture()))[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n"
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_stops_arriving(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        answer = b""
        while part := connection.recv(1000):  # the server closes the connection
            answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"The body did not arrive within 1 s. Send it again." in answer


def test_a_client_that_has_gone_is_not_waited_for(server):
    large = png(np.zeros((900, 1000, 3), np.uint8))
    before = server.metric("images_total")
    head = b"POST /v1/segment?output=scores HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(large)
    gone = []
    for _ in range(12):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        connection.sendall(head + large)
        gone.append(connection)
    time.sleep(0.3)
    for connection in gone:
        connection.close()
    assert server.segment(png(picture()))[0] == 200
    computed = server.metric("images_total") - before
    assert computed < 12


def test_other_paths_and_methods(server):
    assert server.request("GET", "/v2")[0] == 404
    assert server.request("GET", "/v1/segment")[0] == 405
    for path in ("/", "/healthz", "/readyz"):
        assert server.request("HEAD", path)[::2] == (200, b"")
    assert server.request("GET", "/page/../../etc/passwd")[0] == 404
    assert json.loads(server.request("GET", "/v2")[2]) == {"detail": "Not Found"}
