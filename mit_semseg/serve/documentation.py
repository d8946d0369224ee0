"""The parts of the OpenAPI document that FastAPI cannot derive, with examples."""

from typing import Any

DESCRIPTION = (
    "Semantic segmentation: the class of each pixel of an image. Errors are JSON with a `detail`, which says "
    "what to do."
)

_FILE = {"type": "string", "format": "binary"}
SEGMENT_BODY: dict[str, Any] = {
    "required": True,
    "description": "The bytes of an image file, or a form with the file `image`. Parameters may be fields of "
    "the form, too.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": _FILE, "output": {"type": "string"}, "include": {"type": "string"}},
            },
            "encoding": {"image": {"contentType": "image/jpeg, image/png, image/webp"}},
        },
        "image/jpeg": {"schema": _FILE},
        "image/png": {"schema": _FILE},
        "application/octet-stream": {"schema": _FILE},
    },
}

_JSON_SCHEMA = {
    "type": "object",
    "required": ["model", "width", "height", "classes"],
    "properties": {
        "model": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "name", "color", "share"],
                "properties": {
                    "index": {"type": "integer"},
                    "name": {"type": "string"},
                    "color": {"type": "array", "items": {"type": "integer"}},
                    "share": {"type": "number"},
                    "rle": {
                        "type": "object",
                        "properties": {
                            "size": {"type": "array", "items": {"type": "integer"}},
                            "counts": {"type": "string"},
                        },
                    },
                },
            },
        },
        "labels": {"type": "string", "format": "byte"},
        "confidence": {"type": "string", "format": "byte"},
        "overlay": {"type": "string", "format": "byte"},
    },
}
_SEGMENTED = {
    "model": "camvid-efficientnet_lite0-upernet",
    "width": 600,
    "height": 450,
    "classes": [
        {
            "index": 1,
            "name": "building",
            "color": [128, 0, 0],
            "share": 0.577904,
            "rle": {"size": [450, 600], "counts": "0o;S2"},
        }
    ],
}
SEGMENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What `output` names. Classes with the largest share come first.",
        "content": {
            "application/json": {"schema": _JSON_SCHEMA, "example": _SEGMENTED},
            "image/png": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    },
}
_ERRORS = {
    401: "A token is needed: Authorization: Bearer TOKEN.",
    408: "The body did not arrive within 30 s. Send it again.",
    413: "The upload has 20000 x 20000 pixels, but the limit is 25,000,000. Scale it down.",
    415: "The upload is not an image that can be read.",
    422: "Unknown parameter: outptu. The parameters are model, output, include, alpha, legend.",
    429: "Too many images are waiting already. Try again later.",
    503: "No worker is ready. Try again in a few seconds.",
}
_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": message,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"detail": {"type": "string"}}},
                "example": {"detail": message},
            }
        },
    }
    for status, message in _ERRORS.items()
}
SEGMENT_RESPONSES |= _ERROR_RESPONSES

MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "models": [
                        {
                            "name": "camvid-efficientnet_lite0-upernet",
                            "title": "timm/tf_efficientnet_lite0 + upernet",
                            "device": "cpu",
                            "classes": [{"index": 0, "name": "sky", "color": [128, 128, 128]}],
                        }
                    ],
                    "limits": {"bytes": 20000000, "pixels": 25000000},
                    "version": "3.0.0",
                }
            }
        }
    },
    401: _ERROR_RESPONSES[401],
}

READY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"status": "ready"}}}},
    503: {
        "description": "Workers load the models, or the server ends.",
        "content": {"application/json": {"example": {"status": "starting"}}},
    },
}

METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"example": "semseg_queue_length 0.0\n"}}},
    401: _ERROR_RESPONSES[401],
}
