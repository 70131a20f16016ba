"""The looks of the pre-flight that need PyTorch: settings, device, model, mask, lengths, memory, disk, learning.

Each takes a function that reports a fault, returns what it found as half a sentence, and keeps what later ones need;
which needs which is in build_check.py. All are made of the pieces that a training is made of.

    looks = ModelLooks(config, {"train": path, "val": path})
    looks.settings(report); looks.model(report); looks.mask(report); ...

Worst bug: a look at something else than what will be trained (tests/check/test_preflight.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from . import build, build_backend, build_examples, console
from .build_batch import one_row_at_a_time, settle_batch
from .build_estimate import Asked, estimate_settled
from .config.schema import Config
from .config.settling import settled_keys
from .errors import MachineError, ModelError, SftError
from .memory.plan import cheapest_changes
from .memory.probe import find_device
from .memory.shape import optimizer_bytes
from .memory.torch_build import refuse_unused_gpu
from .model.backend import Backend
from .model.backend.selftest import self_test
from .model.precision import choose_precision
from .run.disk import need_room
from .tokens.ends import rows_that_end, rows_without_end
from .tokens.examples import tally
from .tokens.length import whole_lengths
from .tokens.showing import show_examples, show_histogram
from .units import gib, human_bytes

Report = Callable[[SftError], None]
NAMED = 5  # rows named in a message
MERGED_WIDTH = 2  # bytes a number of the merged model


class ModelLooks:
    """One config on one machine; `paths` are the splits that were found."""

    def __init__(self, config: Config, paths: Mapping[str, Path]) -> None:
        self.asked, self.paths = config, paths
        self.machine = find_device()
        self.config: Config  # settled, from `settings` on
        self.text: build.Text
        self.backend: Backend
        self.encoded: dict[str, build_examples.Encoded] = {}
        self.splits: dict[str, build_examples.Prepared] = {}
        self.estimate: Asked | None = None  # of an architecture that is not known

    def settings(self, report: Report) -> str:
        """What `auto` became here; what has no effect is said by `settle`."""
        self.config = build.settle(self.asked, self.machine)
        changed = settled_keys(self.asked, self.config)
        console.table("Settled on this machine", ("key", "asked", "holds"), changed)
        return f"{len(changed)} keys settled for {self.machine.name} ({self.machine.kind})"

    def device(self, report: Report) -> str:
        """The build of PyTorch, the backend, and the kernels it will use."""
        try:
            refuse_unused_gpu(self.machine)
        except MachineError as error:
            report(error)
        chosen = build_backend.choose_first(self.config)  # before anything imports transformers
        self.backend = chosen or build_backend.choose(self.config, None, self.machine)
        precision = choose_precision(self.config.train.bf16, self.config.train.fp16, self.machine)
        found = self_test(self.backend, precision, self.machine)
        why = f" ({self.backend.reason})" if self.backend.reason else ""
        return f"{self.backend.mode} by {self.backend.name}{why}; {found}"

    def model(self, report: Report) -> str:
        """The stored base, its tokenizer and template; fetched when it is not there."""
        self.text = build.load_text(self.config)
        self.config = build.settle_rate(self.config, self.text)
        stored, template = self.text.stored, self.text.template
        return f"{stored.name} in {stored.folder}, template: {template.origin}, turns end with ids {self.text.stop_ids}"

    def mask(self, report: Report) -> str:
        """Every row rendered and encoded; two of them shown with what is trained."""
        for name in ("train", "val"):
            if name in self.paths:
                self.encoded[name] = build_examples.encode_split(self.config, self.text, name, self.paths[name])
        rows = self.encoded["train"].examples
        if rows:
            show_examples(rows, tally(rows), self.text.tokenizer)
        return f"{sum(len(split.examples) for split in self.encoded.values())} rows rendered, encoded and masked"

    def lengths(self, report: Report) -> str:
        """How long the rows are, and what the length policy takes."""
        limit, policy = self.config.model.max_seq_len, self.config.data.truncation
        lengths = [length for table in self.encoded["train"].sets.values() for length in whole_lengths(table)]
        if lengths:
            show_histogram("Tokens a row of the training split", lengths, limit, policy)
        for name, split in self.encoded.items():
            try:
                self.splits[name] = build_examples.cut_to_length(self.config, name, split)
            except SftError as error:
                report(error)
        build_examples.show_lengths(self.splits)
        kept = ", ".join(f"{name} {len(split.examples)}" for name, split in self.splits.items())
        return f"{kept} rows trained or evaluated, the longest of {max(lengths, default=0)} tokens (limit {limit})"

    def end_of_turn(self, report: Report) -> str:
        """The rows that teach when to stop."""
        train = self.splits["train"]
        rows = train.examples.examples
        without = rows_without_end(rows, self.text.stop_ids)
        taught = rows_that_end(rows, self.text.stop_ids)
        if len(without) > self.config.data.max_rejected * len(rows) or not taught:
            first = [row.source for row in (without or rows[:NAMED])]
            named = ", ".join(first[:NAMED]) + (", ..." if len(rows) - taught > NAMED else ".")
            raise ModelError(
                f"{len(rows) - taught} of {len(rows)} rows do not end with a token that ends a turn: {named}",
                where=str(train.path), expected=f"one of the ids {self.text.stop_ids} as last trained token",
                cure="Rendered rows of another model: make render. Rows that are cut: raise model.max_seq_len, or set "
                "data.truncation to drop.", code="E603",
            )  # fmt: skip
        cut = sum(not row.is_complete for row in rows)
        return f"{taught} of {len(rows)} rows teach it" + (f", {cut} are cut before their end" if cut else "")

    def memory(self, report: Report) -> str:
        """The estimate beside what is free; an architecture that is not known is left to the first steps."""
        try:
            rows = self.splits["train"].examples
            self.config = settle_batch(self.config, self.text, rows, self.machine).config
            longest = max(rows.lengths)
            asked = self.estimate = estimate_settled(self.config, self.machine, is_real=True, length=longest)
        except ModelError as error:
            self.config = one_row_at_a_time(self.config)
            return f"not estimated: {error.seen}"
        self.config = asked.config  # as it was estimated is how it is looked at from here on
        if asked.fits:
            return f"{gib(asked.estimate.total)} needed ({asked.estimate.peak_moment}), {gib(asked.available)} free"
        changes = cheapest_changes(asked.shape, asked.setup, asked.available)
        settings = " ".join(change.setting for change in changes)
        raise MachineError(
            f"It needs {gib(asked.estimate.total)}, and {gib(asked.available)} are free.", where=self.machine.name,
            cure=f'The cheapest changes: SET="{settings}"' if changes else "Take a smaller model, or a larger machine.",
            code="E409",
        )  # fmt: skip

    def disk(self, report: Report) -> str:
        """Checkpoints, the adapter and a merged model."""
        folder = Path(self.config.train.output_dir)
        needs = self._written()
        room = need_room(folder, needs)
        listed = ", ".join(f"{what} {human_bytes(size)}" for what, size in needs.items())
        return f"{human_bytes(room.needed)} needed in {folder} ({listed}), {human_bytes(room.free)} free"

    def learning(self, report: Report) -> str:
        """Ten steps on one micro-batch, of which nothing is kept."""
        from transformers import set_seed

        from .learn.gate import STEPS, choose_rows, try_to_learn  # the Trainer takes seconds to import

        config, machine = self.config, self.machine
        precision = choose_precision(config.train.bf16, config.train.fp16, machine)
        set_seed(config.seed)
        model = build_backend.load_settled(self.backend, config, self.text.stored.folder, machine)
        rows = choose_rows(self.splits["train"].examples, config.train.batch_size, machine.kind)
        console.note(f"{STEPS} steps on {', '.join(row.source for row in rows)}; nothing of them is kept.")
        with tempfile.TemporaryDirectory(prefix="sft-check-") as scratch:
            found = try_to_learn(
                model, rows, train=config.train, mode=self.backend.mode,
                precision=precision.name, device=machine.kind, seed=config.seed,
                pad_id=self.text.tokenizer.pad_token_id, scratch=Path(scratch),
            )  # fmt: skip
        for fault in found.faults:
            report(fault)
        return (
            f"the loss of one batch fell from {found.before:.3f} to {found.after or 0:.3f}; gradients in all of "
            f"{found.trainable} trainable tensors, {found.frozen} frozen ones as they were"
        )

    def _written(self) -> dict[str, int]:
        """Bytes that a run leaves or holds for a moment, by what they are."""
        from .learn.arguments import plan_saves  # brings transformers along

        weights = sum(file.stat().st_size for file in self.text.stored.folder.glob("*.safetensors"))
        if self.estimate is None:
            return {"the merged model": weights}
        train, tuning, shape = self.config.train, self.config.tuning, self.estimate.shape
        tensors = shape.trained_tensors(tuning.mode, tuning.lora.r)
        trained = 4 * sum(tensor.numbers for tensor in tensors)
        checkpoint = trained + sum(optimizer_bytes(tensors, train.optim))
        count = plan_saves(train, len(self.splits["train"].examples))
        if train.save_total_limit is not None:  # the best one stays beside the newest, and the next is written first
            count = min(count, max(train.save_total_limit, 2 if train.load_best_model_at_end else 1) + 1)
        tuned = trained if tuning.mode != "full" else MERGED_WIDTH * shape.parameters
        merged = 0 if tuning.mode == "full" else MERGED_WIDTH * shape.parameters
        return {f"{count} checkpoints": count * checkpoint, "the result": tuned, "the merged model": merged}
