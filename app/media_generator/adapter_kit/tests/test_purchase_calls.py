"""An answer about another purchase settles nothing; one that says nothing is asked for again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.http_client.protocol import Answer, Request
from app.media_generator.adapter_kit.answer_store import AnswerStore
from app.media_generator.adapter_kit.id_reader import IdReader
from app.media_generator.adapter_kit.purchase_calls import ask_about
from app.media_generator.errors import AnswerLostError, NotReachedError
from app.media_generator.fal_media_generator.addresses import request_of

POLL = Request(method="GET", url="http://provider.test/jobs/mine", keep_alive=True)


class Sequence:
    """An Http that answers with these bodies, one after the other."""

    def __init__(self, *bodies):
        self.bodies = list(bodies)
        self.kept = []
        self.dropped = 0

    async def send(self, request):
        self.kept.append(request.keep_alive)
        body = json.dumps(self.bodies.pop(0)).encode()
        return Answer(status=200, headers={}, body=body, truncated=False, seconds=0, drop_connection=self._drop)

    def _drop(self):
        self.dropped += 1


async def test_answer_about_the_purchase_is_taken_from_a_kept_connection():
    http = Sequence({"id": "mine", "n": 1})

    assert b'"n": 1' in (await ask_about("mine", http, POLL, provider="acme")).body
    assert http.kept == [True]


async def test_answer_about_another_purchase_is_refused_and_its_connection_dropped():
    http = Sequence({"id": "theirs"})

    with pytest.raises(NotReachedError, match="another purchase, 'theirs'"):
        await ask_about("mine", http, POLL, provider="acme")
    assert http.dropped == 1


@pytest.mark.parametrize("silent", [{}, [], "gone", {"id": None}, {"id": 7}, {"detail": "not found"}])
async def test_answer_that_says_nothing_is_asked_for_again_on_its_own_connection(silent):
    http = Sequence(silent, {"detail": "really not found"})

    assert b"really" in (await ask_about("mine", http, POLL, provider="acme")).body
    assert http.kept == [True, False]


async def test_answer_about_another_purchase_is_refused_on_its_own_connection_too():
    http = Sequence({}, {"id": "theirs"})

    with pytest.raises(NotReachedError):
        await ask_about("mine", http, POLL, provider="acme")


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"request_id": "a"}, "a"),
        ({"response_url": "https://queue.fal.run/fal-ai/flux/requests/a%2Fb/status?x"}, "a/b"),
        ({"status": "COMPLETED"}, None),
    ],
)
def test_status_of_fal_names_its_request(body, about):
    answer = Answer(status=200, headers={}, body=json.dumps(body).encode(), truncated=False, seconds=0)

    assert request_of(answer) == about


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "x", 'q"\\', ":"]), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=JSON, data=st.data())
def test_id_is_read_from_any_json_in_any_pieces(value, data):
    text, reader = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode(), IdReader()
    expected = value.get("id") if isinstance(value, dict) else None
    plain = isinstance(expected, str) and "\\" not in json.dumps(expected)

    while text:
        size = data.draw(st.integers(1, len(text)))
        reader.feed(text[:size])
        text = text[size:]

    if plain or not isinstance(expected, str):
        assert reader.found == (expected if plain else None)


class Vault:
    """Stores what is complete."""

    def __init__(self):
        self.kept = {}

    async def keep(self, attempt_id, chunks, part=""):
        self.kept[str(attempt_id)] = b"".join([chunk async for chunk in chunks])
        return str(attempt_id)


@pytest.mark.parametrize(("named", "stored"), [({"id": "mine"}, True), ({}, True), ({"id": "theirs"}, False)])
async def test_kept_answer_about_another_purchase_is_not_stored(named, stored):
    async def chunks():
        yield json.dumps({"output": [{"id": "x"}], **named, "more": {"id": "y"}}).encode()

    vault = Vault()
    answers = AnswerStore("acme", vault, most_bytes=1_000)
    if stored:
        await answers.keep("mine", chunks(), external_id="mine")
    else:
        with pytest.raises(AnswerLostError, match="another purchase"):
            await answers.keep("mine", chunks(), external_id="mine")

    assert bool(vault.kept) is stored
