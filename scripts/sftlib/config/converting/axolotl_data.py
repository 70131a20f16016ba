"""The data sets of an Axolotl config as data.datasets, and how much is kept for evaluation.

Comes in: `datasets`, `val_set_size`, `train_on_inputs` and the keys of each data set (SFTDataset of
src/axolotl/utils/schemas/datasets.py at 07e83ab8). Goes out: settings. The text that a prompt strategy writes around a
question is not written here: rows become messages, and the chat template alone makes the text; that is said.

    - {path: org/name, type: chat_template, split: "train[:80%]", field_messages: talk}
    ->  data.datasets.name: {path: hf:org/name, split: "train[:80%]", columns: {messages: talk}}

Worst bug: rows of another file or split (tests/config/converting/test_from_axolotl_data.py).
"""

from __future__ import annotations

from ..faults import Fault
from . import sets
from .axolotl_keys import DATASET_LEFT_OUT, DATASET_REFUSED
from .draft import Draft
from .foreign import Entry, Section
from .templates import settle_own_template

MESSAGES = ("chat_template", "sharegpt", "chatml")
PAIRS = {  # prompt strategy -> the fields it reads, where these are not found by their names alone
    "alpaca": {}, "alpaca_chat": {}, "alpaca_w_system": {}, "gpteacher": {}, "context_qa": {}, "alpaca_instruct": {},
    "alpaca_w_system.load_open_orca": {"system": "system_prompt", "user": "question", "assistant": "response"},
}  # fmt: skip
RAW_TEXT = ("completion", "pretrain", "bigstral_sharegpt")
LOADERS = ("json", "csv", "parquet", "text", "arrow")  # names of `datasets` that are no data set
TRAINING_FIELDS = ("training", "train")  # what marks a message in rows of ours


def convert(draft: Draft) -> None:
    """Fill the draft with the data sets and the split."""
    keys = draft.keys
    sets.settle_split(draft, keys.take("val_set_size"), "val_set_size")
    elsewhere = keys.take("test_datasets")
    if elsewhere is not None:
        cure = "Say val_set_size instead; or `make process` those rows elsewhere, and name them with data.val_path."
        draft.refuse(elsewhere, "rows for evaluation come from the same data sets here.", cure=cure)
    inputs, system = keys.take("train_on_inputs"), keys.take("default_system_message")
    trains_all = inputs is not None and bool(inputs.boolean())
    if inputs is not None:
        draft.put("data.loss_on", "all" if trains_all else "assistant", inputs)
    listed = keys.take("datasets")
    if listed is None:
        cure = "Is this a config of Axolotl?"
        draft.layer.faults.append(Fault(f"{draft.file}:1", "There is no `datasets`.", "a list of data sets", cure))
        return
    taken: list[str] = []
    for item in listed.items():
        section = item.section()
        if section is not None:
            _dataset(draft, item, section, taken, system, trains_all)


def _dataset(
    draft: Draft, item: Entry, keys: Section, taken: list[str], system: Entry | None, trains_all: bool
) -> None:
    draft.refuse_given(DATASET_REFUSED, keys)
    path, files = keys.take("path"), keys.take("data_files")
    if path is None:
        draft.refuse(item, "it does not say where its rows are.", "path: a file, a folder or a name of the hub")
        return
    name = sets.name_of((files.texts()[:1] if files and path.text() in LOADERS else [path.text()])[0] or "data", taken)
    taken.append(name)
    ours = f"data.datasets.{name}"
    places = _places(draft, path, files)
    if places:
        draft.put(f"{ours}.path", places if len(places) > 1 else places[0], files if path.text() in LOADERS else path)
    subset, split = keys.take("name"), keys.take("split")
    if subset is not None:
        draft.put(f"{ours}.subset", subset.text(), subset)
    if split is not None and places:
        word = sets.split_slice(draft, split, places[0], split.text() or "")
        if word is not None and places[0].startswith("hf:"):
            draft.put(f"{ours}.split", word, split)
        elif word is not None:
            draft.leave_out(split, "a file has one split")
    _rows(draft, ours, keys, system)
    _loss(draft, ours, keys, trains_all)
    settle_own_template(draft, keys.take("chat_template", "conversation"), keys.take("chat_template_jinja"))
    draft.leave_out_rest(DATASET_LEFT_OUT, keys)


def _places(draft: Draft, path: Entry, files: Entry | None) -> list[str]:
    """Where the rows are; nothing where that is refused."""
    word = path.text() or ""
    if files is None:
        found = sets.locate(draft, path, word)
        return [found] if found else []
    if word not in LOADERS and not sets.locate(draft, path, word):
        return []
    if word not in LOADERS:
        cure = "Fetch the files, and list them as path."
        draft.refuse(files, "single files of a data set of the hub, or of a folder, are not picked.", cure=cure)
        return []
    return [found for one in files.texts() if (found := sets.locate(draft, files, one))]


def _rows(draft: Draft, ours: str, keys: Section, system: Entry | None) -> None:
    """What the rows look like, and the system text of those that have none."""
    kind = keys.take("type")
    if kind is None:
        cure = "Name the type, e.g. chat_template; rows of token ids cannot be read."
        draft.refuse(keys.take("path") or next(iter(keys)), "the data set has no type.", cure=cure)
        return
    if kind.is_section:
        _prompter(draft, ours, kind.section())
    else:
        word = (kind.text() or "").split(":")[0]
        if word.split(".")[0] in MESSAGES:
            draft.leave_out(kind, "rows of messages are known by their fields")
            _messages(draft, ours, keys)
        elif word in PAIRS:
            for column, theirs in PAIRS[word].items():
                draft.put(f"{ours}.columns.{column}", theirs, kind)
            text = "its text around the question is not written: the question goes through the chat template as it is"
            draft.differ(kind, text)
        elif word.split(".")[0] in RAW_TEXT:
            draft.refuse(kind, "raw text is pre-training.", cure="Give questions and answers.")
        else:
            expected = "one of " + ", ".join([*MESSAGES[:2], *PAIRS]) + ", or a section with field_instruction"
            draft.refuse(kind, "nothing here reads rows of this type.", expected)
    if system is not None and f"{ours}.system" not in draft.lines:
        draft.put(f"{ours}.system", system.text(), system)


def _messages(draft: Draft, ours: str, keys: Section) -> None:
    field = keys.take("field_messages")
    if field is not None and field.text() not in sets.MESSAGE_COLUMNS:
        draft.put(f"{ours}.columns.messages", field.text(), field)
    elif field is not None:
        draft.leave_out(field, "rows with this field are known by it")
    mapping, roles = keys.take("message_property_mappings"), keys.take("roles")
    role, content = keys.take("message_field_role"), keys.take("message_field_content")
    used = {"role": role, "content": content}
    used |= {key: entry for key, entry in _entries(mapping).items() if entry.is_given}
    pair = tuple((used[key].text() if used[key] else None) for key in ("role", "content"))
    if pair != (None, None) and not any(
        all(word in (None, known) for word, known in zip(pair, one, strict=True)) for one in sets.MESSAGE_KEYS
    ):
        cure = "Rename them in the data."
        draft.refuse(mapping or role or content, "messages are read as role and content, or from and value.", cure=cure)
    else:
        for entry in filter(None, (mapping, role, content)):
            draft.leave_out(entry, "role and content, or from and value, are known")
    given = {name: [text for one in entry.items() if (text := one.text())] for name, entry in _entries(roles).items()}
    if wrong := sets.has_known_roles(given):
        draft.refuse(roles, f"these roles are not known here: {', '.join(wrong)}.", cure="Rename them in the data.")
    elif roles is not None:
        draft.leave_out(roles, "these roles are known")
    for key in ("field_human", "field_model"):
        entry = keys.take(key)
        if entry is not None and entry.text() not in (*sets.ROLES["user"], *sets.ROLES["assistant"]):
            draft.refuse(entry, "this role is not known here.", cure="Rename it in the data.")


def _prompter(draft: Draft, ours: str, keys: Section) -> None:
    """A prompt strategy of the user's own: its fields become columns, its text is a template's business."""
    user, more = keys.take("field_instruction"), keys.take("field_input")
    answer, system = keys.take("field_output"), keys.take("field_system")
    text, fixed = keys.take("format", "no_input_format"), keys.take("system_prompt")
    if more is not None and (user is None or (user.text(), more.text()) != ("instruction", "input")):
        cure = "Join the two in the data, e.g. as `instruction`."
        draft.refuse(more, "a question of two fields, other than instruction and input.", cure=cure)
        return
    if more is None:
        for column, entry in (("user", user), ("assistant", answer)):
            if entry is not None:
                draft.put(f"{ours}.columns.{column}", entry.text(), entry)
    if system is not None:
        draft.put(f"{ours}.columns.system", system.text(), system)
    if fixed is not None:
        draft.put(f"{ours}.system", fixed.text(), fixed)
    plain = (text.text() or "").replace(" ", "").replace("\n", "").strip() if text else ""
    if plain not in ("", "{instruction}", "{instruction}{input}"):
        cure = "Write it as a Jinja file with {{ user }} and {{ assistant }}, and name that with data.template_path."
        draft.refuse(text, "text around a question is the chat template's business here.", cure=cure)
    for entry in keys.unread().values():
        if entry.is_given:
            draft.leave_out(entry, "of the text around a question, which is the chat template's here")


def _loss(draft: Draft, ours: str, keys: Section, trains_all: bool) -> None:
    """Which messages are trained."""
    roles, ends, turns = keys.take("roles_to_train"), keys.take("train_on_eos"), keys.take("train_on_eot")
    field = keys.take("message_field_training")
    names = [item.text() for item in roles.items()] if roles else None
    if names is not None and not set(names) <= {"assistant", "gpt", "model"}:
        cure = "Say [assistant], or take the line away; train_on_inputs: true trains the whole text."
        draft.refuse(roles, "the assistant's messages are trained, or the whole text.", cure=cure)
    elif names is not None and trains_all:
        draft.refuse(roles, "train_on_inputs: true trains the whole text.", cure="Keep one of the two.")
    elif roles is not None:
        draft.put(f"{ours}.loss_on", "assistant", roles)
    empty = keys.written("roles_to_train")
    if empty is not None and empty.is_list and not empty.is_given:
        cure = "Mark the others with train: false, and take the line away."
        draft.refuse(empty, "messages without a mark are trained if they are the assistant's.", cure=cure)
    if field is not None and field.text() in TRAINING_FIELDS:
        draft.put(f"{ours}.loss_on", "flagged", field)
    elif field is not None:
        draft.refuse(field, "a message is marked with `train` or `training`.", cure="Rename the field in the data.")
    for entry in filter(None, (ends, turns)):
        if entry.text() in ("turn", "true"):
            draft.leave_out(entry, "the end of each trained answer is trained")
        else:
            draft.differ(entry, "the end of each trained answer is trained, and no other end")


def _entries(entry: Entry | None) -> dict[str, Entry]:
    """The keys below an entry, nothing where there is none."""
    section = entry.section() if entry is not None else None
    return section.unread() if section is not None else {}
