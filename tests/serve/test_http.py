"""Requests to a running server, and what they return."""

import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from serving import form, picture, png

from mit_semseg.data import rle


def gray(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def test_a_body_and_a_form_give_the_shares_of_the_segmenter(server, segmenter):
    image = picture()
    expected = segmenter(image)
    status, answer = server.segment(png(image))
    assert status == 200
    assert (answer["model"], answer["width"], answer["height"]) == ("trained", 48, 36)
    assert {found["name"]: found["share"] for found in answer["classes"]} == pytest.approx(
        expected.shares, abs=1e-6
    )
    assert list(answer["classes"][0]) == ["index", "name", "color", "share"]
    body, headers = form(png(image), model="other")
    status, of_form = server.segment(body, headers=headers)
    assert status == 200
    assert of_form == {**answer, "model": "other"}


def test_each_output_holds_what_the_segmenter_finds(server, segmenter):
    image = picture()
    expected = segmenter(image, confidence=True)
    np.testing.assert_array_equal(gray(server.segment(png(image), "?output=labels")[1]), expected.labels + 1)
    overlay = gray(server.segment(png(image), "?output=overlay&alpha=0.25")[1])
    np.testing.assert_array_equal(overlay, np.asarray(expected.overlay(0.25)))
    legend = gray(server.segment(png(image), "?output=overlay&legend=true")[1])
    np.testing.assert_array_equal(legend, np.asarray(expected.overlay(legend=True)))
    sure = gray(server.segment(png(image), "?output=confidence")[1])
    np.testing.assert_allclose(sure / 255, expected.confidence, atol=0.5 / 255 + 1e-6)
    with np.load(io.BytesIO(server.segment(png(image), "?output=scores")[1])) as scores:
        assert tuple(scores["names"]) == expected.names
        np.testing.assert_allclose(scores["probabilities"], expected.probabilities, atol=1e-3)


def test_the_json_includes_what_is_asked_for(server, segmenter):
    image = picture(60, 44)
    status, answer = server.segment(png(image), "?include=rle,labels,confidence,overlay")
    assert status == 200
    labels = gray(base64.b64decode(answer["labels"])) - 1
    np.testing.assert_array_equal(labels, segmenter(image).labels)
    for found in answer["classes"]:
        assert found["rle"]["size"] == [44, 60]
        np.testing.assert_array_equal(
            rle.decode(rle.from_text(found["rle"]["counts"]), 44, 60), labels == found["index"]
        )
    assert gray(base64.b64decode(answer["overlay"])).shape == (44, 60, 3)
    assert gray(base64.b64decode(answer["confidence"])).shape == (44, 60)


def test_an_image_is_turned_upright_as_its_exif_data_say(server):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    file = io.BytesIO()
    Image.fromarray(picture(48, 36)).save(file, "JPEG", exif=exif)
    _, answer = server.segment(file.getvalue())
    assert (answer["width"], answer["height"]) == (36, 48)


def test_images_of_a_batch_get_the_labels_that_they_get_alone(server, segmenter):
    images = [picture(48, 36, seed) for seed in range(24)] + [picture(36, 48, seed) for seed in range(8)]
    before = server.metric("batch_images_count"), server.metric("batch_images_sum")
    with ThreadPoolExecutor(len(images)) as pool:
        answers = list(pool.map(lambda image: server.segment(png(image), "?output=labels"), images))
    batches = server.metric("batch_images_count") - before[0]
    assert server.metric("batch_images_sum") - before[1] == len(images)
    assert batches < len(images)
    for image, (status, body) in zip(images, answers, strict=True):
        assert status == 200
        alone = segmenter(image)
        differ = gray(body) != alone.labels + 1
        best = np.sort(alone.probabilities, axis=0)[-2:]
        assert (best[1] - best[0])[differ].max(initial=0) < 1e-5  # only ties


def test_two_programs_that_send_on_one_connection_get_their_own_answers(server):
    """An answer belongs to its request, whatever the order in which the images are ready."""
    sizes = [(40 + k, 30 + k) for k in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda size: server.segment(png(picture(*size)))[1], sizes))
    assert [(answer["width"], answer["height"]) for answer in answers] == sizes


def test_the_models_are_described(server, tiny):
    status, _, body = server.request("GET", "/v1/model")
    answer = json.loads(body)
    assert status == 200
    assert [model["name"] for model in answer["models"]] == ["trained", "other"]
    model = answer["models"][0]
    assert (model["title"], model["device"]) == ("mobilenetv2dilated + c1", "cpu")
    assert model["classes"][1] == {"index": 1, "name": "lawn", "color": [60, 180, 60]}


def test_probes_and_metrics(server):
    assert server.request("GET", "/healthz")[0] == 200
    assert server.request("GET", "/readyz")[0] == 200
    before = server.metric("images_total")
    server.segment(png(picture()))
    assert server.metric("images_total") == before + 1
    text = server.request("GET", "/metrics")[2].decode()
    assert 'semseg_requests_total{path="/v1/segment",status="200"}' in text
    assert "semseg_request_seconds_bucket" in text
    assert len(list(text_string_to_metric_families(text))) >= 8  # as Prometheus reads it
    assert "semseg_queue_length 0.0" in text
    assert "semseg_images_per_second" in text


def test_the_openapi_document_has_examples_and_all_statuses(server):
    document = json.loads(server.request("GET", "/openapi.json")[2])
    segment = document["paths"]["/v1/segment"]["post"]
    assert {"200", "401", "408", "413", "415", "422", "429", "503"} <= segment["responses"].keys()
    assert segment["responses"]["200"]["content"]["application/json"]["example"]["classes"]
    assert {"multipart/form-data", "image/jpeg"} <= segment["requestBody"]["content"].keys()
    names = [parameter["name"] for parameter in segment["parameters"]]
    assert names == ["model", "output", "include", "alpha", "legend"]
    assert "components" not in document  # no token is needed here


def test_the_openapi_document_describes_the_json_that_is_answered(server):
    document = json.loads(server.request("GET", "/openapi.json")[2])
    described = document["paths"]["/v1/segment"]["post"]["responses"]["200"]["content"]["application/json"]
    answer = server.segment(png(picture()), "?include=rle,labels,confidence,overlay")[1]
    properties = described["schema"]["properties"]
    assert properties.keys() == answer.keys()
    assert properties["classes"]["items"]["properties"].keys() == answer["classes"][0].keys()


def test_the_page_and_its_files_name_no_other_host(server):
    for path in ("/", "/page/script.js", "/page/style.css"):
        status, _, body = server.request("GET", path)
        assert status == 200
        assert re.findall(rb"https?:|[\"'(]//", body) == []
    assert "default-src 'self'" in server.request("GET", "/")[1]["Content-Security-Policy"]
