"""What ends the life of a model, and strict checks of replies."""

from calls import QUESTION, client, raises
from checks import check, state
from openai import OpenAI


@check
def strict_validation_accepts_replies():
    """Jobs are left out: their `error` is an object as the hosted service sends it, not null."""
    strict = OpenAI(_strict_response_validation=True)
    for call in (
        lambda: strict.files.list(limit=2),
        lambda: strict.files.retrieve(state.train),
        lambda: strict.fine_tuning.jobs.list_events(state.job, limit=2),
        lambda: strict.fine_tuning.jobs.checkpoints.list(state.job),
        strict.models.list,
        lambda: strict.batches.list(limit=2),
        lambda: strict.chat.completions.create(model=state.model, messages=QUESTION, max_tokens=2),
    ):
        call()


@check
def models_delete_last():
    gone = client.models.delete(state.model)
    assert (gone.id, gone.object, gone.deleted) == (state.model, "model", True), gone
    raises(404, lambda: client.models.retrieve(state.model), code="model_not_found")
    raises(
        404,
        lambda: client.chat.completions.create(model=state.model, messages=QUESTION),
        code="model_not_found",
    )
