"""`/v1/models` and `/v1/models/{id}` through openai-python."""

import time

import pytest
from openai import NotFoundError, OpenAI

from inferyard import Up


def test_the_list_has_every_name(client: OpenAI, server: Up) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == sorted(server.models)
    assert {"demo", "abliterated-model"} <= set(server.models)
    for model in models:
        assert model.object == "model"
        assert model.owned_by
        assert 0 < model.created <= time.time() + 1


@pytest.mark.parametrize("name", ["demo", "abliterated-model"])
def test_each_name_can_be_retrieved(client: OpenAI, name: str) -> None:
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


@pytest.mark.parametrize("name", ["unheard-of", "an-org/a-model", "größer", "a b", "%2e%2e"])
def test_an_unknown_one_is_not_found(client: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    assert name in caught.value.message
