"""From messages to answers under the settings of `infer`."""

from __future__ import annotations

from sftlib.config import InferSection
from sftlib.measure.generate import generate_answers
from sftlib.measure.responder import Responder, opening

MESSAGES = [{"role": "system", "content": "S"}, {"role": "user", "content": "Where does the sun rise?"}]
PROMPT = (
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nWhere does the sun rise?<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_prompt_is_the_template_s(speaker):
    pieces: list[str] = []
    answer = Responder(speaker, InferSection(max_new_tokens=9)).answer(MESSAGES, pieces.append)
    [expected] = generate_answers(
        speaker.model, speaker.tokenizer, [PROMPT], max_new_tokens=9, batch_size=1, stop_ids=speaker.stop_ids
    )
    assert answer == expected
    assert "".join(pieces) == answer.text


def test_batches_answer_as_the_stream_does(speaker):
    responder = Responder(speaker, InferSection(max_new_tokens=9, batch_size=2))
    conversations = [MESSAGES, MESSAGES[1:], [{"role": "user", "content": "?"}]]
    together = responder.answers(conversations, ["a", "b", "c"])
    assert together == [responder.answer(messages, lambda _: None) for messages in conversations]


def test_every_setting_reaches_the_model(speaker):
    plain = InferSection(max_new_tokens=20)
    first = Responder(speaker, plain, seed=1).answer(MESSAGES, lambda _: None)
    changes = [
        {"max_new_tokens": 5},
        {"temperature": 3.0},
        {"repetition_penalty": 5.0},
        {"stop": [first.text[4:6]]},
    ]
    for change in changes:
        section = plain.model_copy(update=change)
        assert Responder(speaker, section, seed=1).answer(MESSAGES, lambda _: None) != first, change
    hot = plain.model_copy(update={"temperature": 3.0})
    for change in ({"top_p": 0.01}, {"top_k": 1}):  # both leave the likeliest token only
        narrow = Responder(speaker, hot.model_copy(update=change), seed=1).answer(MESSAGES, lambda _: None)
        assert narrow == first, change


def test_what_fits_leaves_room_for_an_answer(speaker):
    def fits(characters: int, max_new_tokens: int) -> bool:
        responder = Responder(speaker, InferSection(max_new_tokens=max_new_tokens))
        return responder.fits([{"role": "user", "content": "?" * characters}])

    frame = len(speaker.tokenizer("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n")["input_ids"])
    assert fits(512 - frame - 100, 100)  # the context is 512
    assert not fits(512 - frame - 99, 100)
    assert fits(256 - frame, 1000)  # an answer is not reserved more than half


def test_opening():
    assert opening("q", None) == [{"role": "user", "content": "q"}]
    assert opening("q", "S") == [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}]
