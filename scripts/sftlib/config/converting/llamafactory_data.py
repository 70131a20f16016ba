"""The data sets of a LLaMA-Factory config, by way of its dataset_info.json, as data.datasets.

Comes in: `dataset`, `dataset_dir`, `val_size`, the mixing, and the entries of dataset_info.json (DatasetAttr of
src/llamafactory/data/parser.py at 01d3ac67). Goes out: settings. dataset_info.json is looked for in dataset_dir, from
the current folder, from that of the config, and from the folders above it, as configs lie in examples/ there.

    dataset: faq      {"faq": {"file_name": "faq.json", "columns": {"prompt": "q", "response": "a"}}}
    ->  data.datasets.faq: {path: data/faq.json, columns: {user: q, assistant: a}}

Worst bug: a column taken for another (tests/config/converting/test_from_llamafactory_data.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from ..reading import read_number
from . import sets
from .draft import Draft
from .foreign import Entry, Section, read_section

INFO = "dataset_info.json"
NO_PAIR = {
    "ranking": "preference pairs are no supervised fine-tuning.", "script_url": "no code of a data set is run.",
    "ms_hub_url": "ModelScope is not read.", "om_hub_url": "Modelers is not read.",
    "cloud_file_name": "rows are not fetched from there.", "revision": "the newest revision of a data set is read.",
}  # fmt: skip
OTHER_COLUMNS = {
    "chosen": "preference pairs are no supervised fine-tuning.",
    "kto_tag": "preferences are no supervised fine-tuning.",
    "rejected": "preference pairs are no supervised fine-tuning.", "images": "images cannot be trained on here.",
    "videos": "videos cannot be trained on here.", "audios": "sound cannot be trained on here.",
    "tools": "tool definitions are not put into the text.",
}  # fmt: skip
TAGS = {"role_tag": "from", "content_tag": "value"}
ROLE_TAGS = {
    "user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "assistant",
    "system_tag": "system",
}  # fmt: skip


def convert(draft: Draft) -> None:
    """Fill the draft with the data sets, their mix and the split."""
    keys = draft.keys
    sets.settle_split(draft, keys.take("val_size"), "val_size")
    _loss(draft)
    names, folder, most = keys.take("dataset"), keys.take("dataset_dir"), keys.take("max_samples")
    system = keys.take("default_system")
    if names is None:
        draft.refuse(next(iter(keys)), "there is no `dataset` in the file.", cure="Is this a config for training?")
        return
    place = (folder.text() if folder else None) or "data"
    info = None
    if place.startswith("REMOTE:"):
        draft.refuse(folder, f"{INFO} is not fetched.", cure=f"Get {INFO}, and name its folder.")
        return
    if place != "ONLINE":
        info = _read_info(draft, folder or names, place)
        if info is None:
            return
    ours = [_dataset(draft, names, name, info) for name in names.texts()]
    for section in filter(None, ours):
        if system is not None:
            draft.put(f"{section}.system", system.text(), system)
        if most is not None and (count := most.whole()) is not None:
            draft.put(f"{section}.max_rows", count, most)
    _mix(draft, [section for section in ours if section])


def _loss(draft: Draft) -> None:
    """Which part of a row is trained."""
    everything, last = draft.keys.take("train_on_prompt"), draft.keys.take("mask_history")
    if everything is not None and everything.is_on:
        draft.put("data.loss_on", "all", everything)
    elif last is not None and last.is_on:
        draft.put("data.loss_on", "last", last)
    else:
        draft.put("data.loss_on", "assistant", "every answer")


def _read_info(draft: Draft, asked_by: Entry, place: str) -> tuple[Section, Path] | None:
    """The entries of dataset_info.json and its folder."""
    start = Path(draft.file).resolve().parent
    tried = [Path(place), *(folder / place for folder in (start, *start.parents))]
    for folder in tried:
        if (folder / INFO).is_file():
            path = Path(os.path.relpath(folder / INFO)) if folder.is_absolute() else folder / INFO
            section = read_section(folder / INFO, str(path), draft.layer)
            return (section, path.parent) if section is not None else None
    expected = f"{place}/{INFO}, seen from here, from the folder of {draft.file}, or from above it"
    draft.refuse(asked_by, f"there is no {INFO}, which says what its data sets are.", expected, "Name dataset_dir.")
    return None


def _dataset(draft: Draft, names: Entry, name: str, info: tuple[Section, Path] | None) -> str | None:
    """The settings of one data set; its section, None where it is refused."""
    taken = [line.split(".")[2] for line in draft.lines if line.startswith("data.datasets.")]
    ours = f"data.datasets.{sets.name_of(name, taken)}"
    if info is None:
        place = sets.locate(draft, names, name)
        if place:
            draft.put(f"{ours}.path", place, names)
        return ours if place else None
    entry = info[0].take(name)
    keys = entry.section() if entry is not None else None
    if keys is None:
        known = ", ".join(one.name for one in info[0]) or "none"
        draft.refuse(names, f"{INFO} has no data set {name}.", f"one of: {known}")
        return None
    before = len(draft.layer.faults)
    for key, why in NO_PAIR.items():
        one = keys.take(key)
        has_other = key in ("ms_hub_url", "om_hub_url") and any(e.name.endswith(".hf_hub_url") for e in keys)
        if one is not None and one.is_on and not has_other:
            draft.refuse(one, why)
    hub, file, folder = keys.take("hf_hub_url"), keys.take("file_name"), keys.take("folder")
    if hub is not None and (place := sets.locate(draft, hub, hub.text() or "")):
        draft.put(f"{ours}.path", place, names, hub)
        for key, theirs in (("subset", keys.take("subset")), ("split", keys.take("split"))):
            if theirs is not None:
                draft.put(f"{ours}.{key}", theirs.text(), theirs)
        if folder is not None:
            draft.refuse(folder, "a folder of a data set of the hub is not picked.", cure="Fetch its files.")
    elif file is not None:
        draft.put(f"{ours}.path", str(info[1] / (file.text() or "")), names, file)
    elif len(draft.layer.faults) == before:
        draft.refuse(entry, "it does not say where its rows are.", "file_name or hf_hub_url")
    count = keys.take("num_samples")
    if count is not None and (rows := count.whole()) is not None:
        draft.put(f"{ours}.max_rows", rows, count)
    _columns(draft, ours, keys)
    return ours if len(draft.layer.faults) == before else None


def _columns(draft: Draft, ours: str, keys: Section) -> None:
    kind, listed, tags = keys.take("formatting"), keys.take("columns"), keys.take("tags")
    columns = listed.section() if listed is not None else None
    word = kind.text() if kind else "alpaca"
    for key, why in OTHER_COLUMNS.items():
        entry = columns.take(key) if columns is not None else None
        if entry is not None:
            draft.refuse(entry, why)
    system = columns.take("system") if columns is not None else None
    if system is not None:
        draft.put(f"{ours}.columns.system", system.text(), system)
    if word in ("sharegpt", "openai"):
        messages = columns.take("messages") if columns is not None else None
        if messages is not None and messages.text() not in sets.MESSAGE_COLUMNS:
            draft.put(f"{ours}.columns.messages", messages.text(), messages)
        if tags is not None and (names := tags.section()) is not None:
            _tags(draft, names, word)
    elif word == "alpaca":
        _alpaca(draft, ours, columns)
    else:
        draft.refuse(kind, "there is no such formatting.", "alpaca, sharegpt or openai")


def _alpaca(draft: Draft, ours: str, columns: Section | None) -> None:
    if columns is None:
        return  # instruction, input and output are found by their names
    user, more, answer = columns.take("prompt"), columns.take("query"), columns.take("response")
    history = columns.take("history")
    if history is not None and history.text() != "history":
        draft.refuse(history, "earlier turns are read from `history`.", cure="Rename the column in the data.")
    said = [entry.text() if entry else None for entry in (user, more, answer)]
    if more is not None and said != ["instruction", "input", "output"]:
        cure = "Join the two in the data, or call them instruction, input and output."
        draft.refuse(more, "a question of two columns, other than instruction and input.", cure=cure)
    elif more is None:
        for column, entry in (("user", user), ("assistant", answer)):
            if entry is not None:
                draft.put(f"{ours}.columns.{column}", entry.text(), entry)


def _tags(draft: Draft, names: Section, kind: str) -> None:
    defaults = TAGS if kind == "sharegpt" else {"role_tag": "role", "content_tag": "content"}
    given = {key: names.take(key) for key in (*TAGS, *ROLE_TAGS)}
    pair = tuple((given[key].text() if given[key] else default) for key, default in defaults.items())
    if pair not in sets.MESSAGE_KEYS:
        wrong = given["role_tag"] or given["content_tag"]
        cure = "Rename them in the data."
        draft.refuse(wrong, "messages are read as role and content, or from and value.", cure=cure)
    for key, role in ROLE_TAGS.items():
        entry = given[key]
        if entry is not None and entry.text() not in sets.ROLES[role]:
            draft.refuse(entry, f"this word for {role} is not known here.", cure="Rename it in the data.")


def _mix(draft: Draft, ours: list[str]) -> None:
    """Weights of the data sets, where they are interleaved."""
    strategy, shares = draft.keys.take("mix_strategy"), draft.keys.take("interleave_probs")
    word = strategy.text() if strategy else "concat"
    if word == "concat":
        if strategy is not None:
            draft.leave_out(strategy, "all rows of all data sets are seen")
        return
    weights = [read_number(text, float) for text in shares.texts()] if shares is not None else [1.0] * len(ours)
    if word not in ("interleave_under", "interleave_over") or len(weights) != len(ours) or not all(weights):
        expected = "concat, interleave_under or interleave_over, and a probability above 0 for each data set"
        draft.refuse(shares or strategy, "this is no mix of these data sets.", expected)
        return
    for section, weight in zip(ours, weights, strict=True):
        draft.put(f"{section}.weight", weight, shares or strategy)
    if word == "interleave_over":
        text = (
            "a pass ended when every set was seen; here it ends before any row is seen twice: data.mixing.rows sets it"
        )
        draft.differ(strategy, text)
