"""What every client does around a call: tries again, checks the contract, fits the images; blocking and async alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import numpy as np
import pytest

from clients.client_options import ClientOptions
from clients.contract_check import Expects
from clients.conversation import Call, Conversation, aconverse, converse
from clients.inprocess import InProcessClient
from clients.retry import Retry
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from policy.preprocess import fit_image
from policy.spec import CameraSpec, PolicySpec
from service.wire.messages import ActReply, ActRequest

SPEC = null_spec(cameras=("front",), size=16)
QUICK = Retry(attempts=3, first_s=0.0)


class Words:
    """A language of two words, spoken to a server that is a function."""

    def ask_spec(self) -> Call[object, PolicySpec, PolicySpec]:
        return (yield "spec")

    def ask_act(self, request: ActRequest) -> Call[object, ActReply, ActReply]:
        return (yield request)

    def ask_reset(self, session: str) -> Call[object, None, None]:
        return (yield session)


class Server:
    """Answers with the policy it holds; `faults` are raised first, one a question."""

    def __init__(self, *faults: Exception) -> None:
        self.spec = SPEC
        self.faults = list(faults)
        self.asked: list[object] = []
        self.left_s: list[float] = []

    def __call__(self, question: object, left_s: float) -> object:
        self.asked.append(question)
        self.left_s.append(left_s)
        if self.faults:
            raise self.faults.pop(0)
        if question == "spec":
            return self.spec
        assert isinstance(question, ActRequest)
        return InProcessClient(NullPolicy(self.spec)).act(question)


def blocking(call, server, options):
    return converse(call, server, options)


def in_a_loop(call, server, options):
    async def exchange(question, left_s):
        return server(question, left_s)

    return asyncio.run(aconverse(call, exchange, options))


both = pytest.mark.parametrize("carry", [blocking, in_a_loop])
Carry = Callable[..., ActReply]


def request(height: int = 16, width: int = 16) -> ActRequest:
    image = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return ActRequest(Observation({"front": image}, np.zeros(4, np.float32), "go"))


@both
def test_a_broken_connection_is_tried_again_with_the_same_question(carry: Carry):
    server = Server(ConnectionError("reset"), TinyVLAError("overloaded", "busy"))
    asked = request()
    carry(Conversation(Words(), ClientOptions(retry=QUICK)).act(asked), server, ClientOptions(retry=QUICK))
    assert server.asked == [asked, asked, asked]


@both
def test_after_the_last_attempt_its_error_is_told(carry: Carry):
    options = ClientOptions(retry=QUICK)
    server = Server(*[ConnectionError(f"reset {n}") for n in range(9)])
    with pytest.raises(ConnectionError, match="reset 2"):
        carry(Conversation(Words(), options).act(request()), server, options)
    assert len(server.asked) == 3


@both
def test_a_refusal_of_the_request_is_told_at_once(carry: Carry):
    options = ClientOptions(retry=QUICK)
    server = Server(TinyVLAError("superseded", "a newer one came"))
    with pytest.raises(TinyVLAError, match="newer"):
        carry(Conversation(Words(), options).act(request()), server, options)
    assert len(server.asked) == 1


@both
def test_the_time_of_a_call_covers_all_its_attempts(carry: Carry):
    broken = [ConnectionError("reset")] * 3
    options, server = ClientOptions(timeout_s=60.0, retry=Retry(attempts=4, first_s=0.001)), Server(*broken)
    carry(Conversation(Words(), options).act(request()), server, options)
    assert all(later < earlier for earlier, later in zip([60.0, *server.left_s], server.left_s, strict=False))
    options, server = ClientOptions(timeout_s=0.0, retry=QUICK), Server(*broken)
    with pytest.raises(ConnectionError):
        carry(Conversation(Words(), options).act(request()), server, options)
    assert server.left_s == [0.0]


@both
def test_a_policy_that_does_not_fit_is_refused_before_any_observation_is_sent(carry: Carry):
    options = ClientOptions(expects=Expects(cameras=("front",), rate_hz=50.0))
    conversation, server = Conversation(Words(), options), Server()
    for _ in range(2):  # and again, as long as it does not fit
        with pytest.raises(TinyVLAError) as caught:
            carry(conversation.act(request()), server, options)
        assert (caught.value.code, caught.value.field) == ("contract_mismatch", "action.rate_hz")
    assert server.asked == ["spec", "spec"]
    server.spec = null_spec(cameras=("front",), size=16, rate_hz=50.0)
    assert carry(conversation.act(request()), server, options).rate_hz == 50.0


@both
def test_the_contract_is_asked_for_once_and_again_when_another_policy_answers(carry: Carry):
    options = ClientOptions(expects=Expects(action_names=("a0", "a1", "a2", "a3")))
    conversation, server = Conversation(Words(), options), Server()
    for _ in range(3):
        carry(conversation.act(request()), server, options)
    assert server.asked.count("spec") == 1
    server.spec = null_spec(cameras=("front",), size=16, horizon=40)  # swapped, and fits as well
    assert carry(conversation.act(request()), server, options).horizon == 40
    assert server.asked.count("spec") == 2
    server.spec = null_spec(cameras=("front",), size=16, action_dim=2)  # swapped, and does not
    with pytest.raises(TinyVLAError, match="action"):
        carry(conversation.act(request()), server, options)


@both
def test_without_expectations_the_contract_is_never_asked_for(carry: Carry):
    server, options = Server(), ClientOptions()
    carry(Conversation(Words(), options).act(request()), server, options)
    assert len(server.asked) == 1


@both
def test_the_clients_policy_is_asked_unless_the_request_names_one(carry: Carry):
    server, options = Server(), ClientOptions(policy="doors")
    for name in (None, "drawers"):
        asked = ActRequest(request().observation, policy=name)
        carry(Conversation(Words(), options).act(asked), server, options)
    assert [asked.policy for asked in server.asked] == ["doors", "drawers"]  # type: ignore[attr-defined]


def sent(height: int, width: int, camera: CameraSpec) -> np.ndarray:
    """The image that goes out where the policy has this camera."""
    server, options = Server(), ClientOptions(resize=True)
    server.spec = SPEC.model_copy(update={"cameras": (camera,)})
    with contextlib.suppress(TinyVLAError):  # of a camera that the policy does not have
        blocking(Conversation(Words(), options).act(request(height, width)), server, options)
    asked = server.asked[-1]
    assert isinstance(asked, ActRequest)
    return asked.observation.images["front"]


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 200), (90, 31)])
def test_a_resized_image_is_what_the_policy_would_have_made_of_the_whole(resize, height, width):
    camera = CameraSpec(name="front", height=16, width=24, resize=resize)
    image = sent(height, width, camera)
    assert image.shape == (16, 24, 3)
    whole = request(height, width).observation.images["front"]
    np.testing.assert_array_equal(fit_image(image, camera), fit_image(whole, camera))


def test_what_resizing_would_spoil_or_enlarge_is_sent_as_it_is():
    cropped = CameraSpec(name="front", height=16, width=16, crop=(0.1, 0.1, 0.8, 0.8))
    assert sent(64, 64, cropped).shape == (64, 64, 3)
    assert sent(8, 8, CameraSpec(name="front", height=16, width=16)).shape == (8, 8, 3)
    assert sent(64, 64, CameraSpec(name="another", height=16, width=16)).shape == (64, 64, 3)
