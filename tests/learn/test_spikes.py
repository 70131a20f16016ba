"""Steps that stand out, and the rows that made them so: by hand, and planted among the rows of a real training."""

from __future__ import annotations

import json
import random

import pytest
from tiny_training import llama

from sftlib import console
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.spikes import WARM_UP, Above, Spike, Watch
from sftlib.run.seen import USUAL, SeenRow, SeenStep, read_seen, rows_by_excess
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example


def flat(count: int, loss: float = 1.0, norm: float = 1.0) -> list[SeenStep]:
    """Steps whose losses go up and down by a tenth."""
    return [SeenStep(n, loss + 0.1 * (-1) ** n, norm, (SeenRow(f"a:{n}", loss, 10),)) for n in range(1, count + 1)]


def with_rows(step: int, *losses: float, norm: float | None = 1.0) -> SeenStep:
    rows = tuple(SeenRow(f"r:{n}", loss, 10) for n, loss in enumerate(losses, 1))
    return SeenStep(step, sum(losses) / len(losses), norm, rows)


def test_a_step_far_above_those_before_it_and_its_rows_worst_first() -> None:
    # 32 losses of 0.9 and 1.1: usual 1.0, distances 0.1, limit 1 + 5 x 1.4826 x 0.1
    spike = Watch(flat(32)).look(with_rows(33, 1.0, 9.0, 1.2, 0.8))
    rows = [SeenRow(f"r:{n}", loss, 10) for n, loss in ((2, 9.0), (3, 1.2), (1, 1.0), (4, 0.8))]
    assert spike == Spike(33, {"loss": Above(3.0, 1.0, 1.7413)}, rows, 1)
    assert spike.words() == "Step 33 stands out: its loss is 3, usual are 1 (limit 1.74)."


def test_what_is_under_the_limit_does_not_stand_out() -> None:
    watch = Watch(flat(32))
    assert watch.look(with_rows(33, 1.7, 1.7)) is None
    assert Watch(flat(32)).look(with_rows(33, 1.8, 1.8)) is not None


def test_a_flat_curve_has_a_floor() -> None:
    steps = [SeenStep(n, 1.0, 0.1, ()) for n in range(1, 33)]
    assert Watch(steps).look(with_rows(33, 1.2, 1.2, norm=0.19)) is None
    assert Watch(steps).look(with_rows(33, 1.3, 1.3, norm=0.1)).above.keys() == {"loss"}
    assert Watch(steps).look(with_rows(33, 1.0, 1.0, norm=0.21)).above.keys() == {"grad_norm"}


def test_there_is_no_limit_before_the_warm_up() -> None:
    assert Watch(flat(WARM_UP - 1)).look(with_rows(WARM_UP, 9.0)) is None
    assert Watch(flat(WARM_UP)).look(with_rows(WARM_UP + 1, 9.0)) is not None


def test_a_level_that_stays_high_becomes_usual() -> None:
    """One that is left by a learning rate too high, say, is not told at every step for ever."""
    watch = Watch(flat(USUAL))
    told = [watch.look(with_rows(USUAL + n, 3.0, 3.0)) is not None for n in range(1, 2 * USUAL)]
    assert told[0]
    assert not any(told[USUAL:])


def test_what_is_not_a_number_is_no_spike() -> None:
    watch = Watch(flat(32))
    assert watch.look(SeenStep(33, None, None, (SeenRow("r:1", None, 3),))) is None
    assert watch.look(with_rows(34, 9.0)) is not None


@pytest.mark.parametrize(
    ("losses", "blamed"),
    [
        ((9.0, 1.0, 1.0, 1.0), 1),
        ((9.0, 9.0, 1.0, 1.0), 2),
        ((9.0, 9.0, 9.0, 1.0), 0),  # more than half of the rows: not these are at fault
        ((4.0, 4.0, 4.0, 4.0), 0),
    ],
)
def test_as_few_rows_are_blamed_as_explain_it(losses, blamed) -> None:
    assert Watch(flat(32)).look(with_rows(33, *losses)).blamed == blamed


def test_a_norm_alone_blames_no_row() -> None:
    spike = Watch(flat(32)).look(with_rows(33, 1.0, 1.2, norm=50.0))
    assert (spike.above.keys(), spike.blamed) == ({"grad_norm"}, 0)
    assert "its grad norm is 50, usual are 1 (limit 2)" in spike.words()


def test_a_curve_that_falls_has_no_spike() -> None:
    draw = random.Random(0)
    watch = Watch()
    for n in range(1, 300):
        loss = 0.5 + 4 * 0.97**n + draw.gauss(0, 0.1)
        assert watch.look(SeenStep(n, loss, loss, (SeenRow("a:1", loss, 9),))) is None, n


# -- In a real training ----------------------------------------------------------------------------------------------

CLEAN, PLANTED = 46, ("raw.jsonl:47", "raw.jsonl:48")


def planted_rows() -> ExampleDataset:
    """Rows that count up by one, and two whose answers are random letters."""
    draw = random.Random(3)
    examples = []
    for row in range(1, CLEAN + len(PLANTED) + 1):
        first, source = draw.randrange(3, 40), f"raw.jsonl:{row}"
        ids = [first + place for place in range(12)]
        if source in PLANTED:
            ids[4:] = [draw.randrange(3, 64) for _ in ids[4:]]
        examples.append(Example(ids, [-100] * 4 + ids[4:], source, True))
    return ExampleDataset(examples)


TRAIN = {"batch_size": 4, "epochs": 12.0, "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 40}


def test_planted_corrupt_rows_are_found_and_nothing_else_is_blamed(make_trainer) -> None:
    trainer = make_trainer(llama(), planted_rows(), train=TRAIN, decode=lambda ids: "".join(chr(60 + i) for i in ids))
    fit(trainer)
    spikes = [json.loads(line) for line in trainer.run.spikes.read_text().splitlines()]
    blamed = [row["source"] for spike in spikes for row in spike["rows"] if row["blamed"]]
    assert set(blamed) == set(PLANTED)
    assert all(spike["rows"][0]["source"] in PLANTED for spike in spikes)
    texts = {example.source: "".join(chr(60 + i) for i in example.input_ids) for example in planted_rows().examples}
    assert all(row["text"] == texts[row["source"]] for spike in spikes for row in spike["rows"])
    assert {row.source for row in rows_by_excess(read_seen(trainer.run))[:2]} == set(PLANTED)
    said = [line for line in console.warnings() if "stands out" in line][-len(spikes) :]
    for spike, line in zip(spikes, said, strict=True):
        assert line.startswith(f"Step {spike['step']} stands out: its ")
        assert f"Worst row: {spike['rows'][0]['source']}, " in line


def test_clean_rows_raise_no_alarm(make_trainer) -> None:
    clean = ExampleDataset(planted_rows().examples[:CLEAN])
    trainer = make_trainer(llama(), clean, train=TRAIN)
    fit(trainer)
    assert not trainer.run.spikes.exists()


def test_a_resumed_run_tells_the_same_spikes_once(make_trainer) -> None:
    from test_resume import StopAt

    whole = make_trainer(llama(), planted_rows(), train=TRAIN, name="whole")
    fit(whole)
    cut = make_trainer(llama(), planted_rows(), train=TRAIN, name="cut")
    cut.add_callback(StopAt(70))
    fit(cut)
    again = make_trainer(llama(), planted_rows(), train=TRAIN, name="cut")
    assert fit(again, newest_checkpoint(again.run.path)).resumed_from == 40
    assert again.run.spikes.read_text() == whole.run.spikes.read_text()
