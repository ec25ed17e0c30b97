"""A refusal has a stable code for programs and one line for people."""

from __future__ import annotations

import json
import pickle

import pytest

from policy.errors import STATUS_BY_CODE, TinyVLAError, contract_mismatch


def test_codes_and_statuses_are_those_of_the_protocol():
    assert STATUS_BY_CODE == {
        "malformed": 400, "unauthorized": 401, "forbidden": 403, "unknown_policy": 404, "superseded": 409,
        "too_large": 413, "unsupported_media": 415, "contract_mismatch": 422, "internal": 500,
        "overloaded": 503, "not_ready": 503, "deadline_exceeded": 504,
    }  # fmt: skip


@pytest.mark.parametrize("code", STATUS_BY_CODE)
def test_every_code_makes_problem_details(code):
    problem = TinyVLAError(code, "what was wrong").problem()
    assert problem["code"] == code
    assert problem["status"] == STATUS_BY_CODE[code]
    assert problem["detail"] == "what was wrong"
    assert problem["type"] == f"urn:tinyvla:{code}"
    assert problem["title"] == code.replace("_", " ")
    json.dumps(problem)


def test_keys_without_a_value_are_left_out():
    assert set(TinyVLAError("overloaded", "busy").problem()) == {"type", "title", "status", "detail", "code"}


def test_a_mismatch_names_field_expected_and_actual():
    problem = contract_mismatch("state", "[4]", "[3]").problem()
    assert (problem["field"], problem["expected"], problem["actual"]) == ("state", "[4]", "[3]")
    assert problem["detail"] == "state: expected [4], got [3]"


def test_a_code_that_is_not_in_the_protocol_cannot_be_raised():
    with pytest.raises(ValueError, match="unknown error code 'oops'"):
        TinyVLAError("oops", "…")


def test_an_error_comes_whole_out_of_another_process():
    error = contract_mismatch("state", "[4]", "[5]")
    error.retry_after_s = 1.5
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is TinyVLAError
    assert str(again) == str(error)
    assert again.problem() == error.problem()
    assert again.retry_after_s == 1.5
