"""Where our replies differ from OpenAI's description on purpose, each with the reason."""

import copy
from typing import Any

NULLABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "ListFilesResponse": (
        ("first_id", "last_id"),
        "an empty list has no first and no last id; the hosted service sends null too",
    ),
    "ListBatchesResponse": (
        ("first_id", "last_id"),
        "an empty list has no first and no last id; the hosted service sends null too",
    ),
    "FineTuningJob": (
        ("hyperparameters",),
        "null for preference tuning, as the hosted service sends it; `strict_spec` sends {}",
    ),
    "FineTuningJobEvent": (
        ("data",),
        "null for events that have no data, as the hosted service sends it",
    ),
    "OpenAIFile": (
        ("expires_at", "status_details"),
        "always present, null where a file does not expire and has no error",
    ),
    "Batch": (
        (
            *("model", "errors", "output_file_id", "error_file_id", "in_progress_at"),
            *("expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
            *("cancelling_at", "cancelled_at", "usage"),
        ),
        "always present, null until it has happened, as the hosted service sends them",
    ),
}
"""{schema: fields that may be null as well, and why}."""
ERROR = (
    "FineTuningJob.error is an object of nulls while nothing failed: clients print "
    "`Error(code=None, message=None, param=None)`; `strict_spec` sends null"
)


EVALS = "a file may be uploaded for `evals`; the description allows that and forgets it in replies"
ENVELOPE = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "minLength": 1},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
"""Body of every error, which the description leaves out."""


def adjusted(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of the description that allows these deviations and describes errors.

    Raises:
        KeyError: A deviation names a field that the description does not have.

    """
    result = copy.deepcopy(schema)
    schemas = result["components"]["schemas"]
    for name, (fields, _) in NULLABLE.items():
        properties = schemas[name]["properties"]
        for field in fields:
            properties[field] = {"anyOf": [properties[field], {"type": "null"}]}
    for choice in schemas["FineTuningJob"]["properties"]["error"]["anyOf"]:
        for field, kind in choice.get("properties", {}).items():
            choice["properties"][field] = {"anyOf": [kind, {"type": "null"}]}
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"].append("evals")
    failed = {"description": "Error", "content": {"application/json": {"schema": ENVELOPE}}}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = failed
    return result


def with_known_ids(schema: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """A copy of a description whose path parameters, `{name: id}`, are often those of real objects.

    Without them, generated requests would rarely get behind a 404.
    """
    result = copy.deepcopy(schema)
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in ids:
                    known = {"type": "string", "enum": [ids[parameter["name"]]]}
                    parameter["schema"] = {"anyOf": [known, {"type": "string"}]}
    return result
