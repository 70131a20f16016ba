"""The chat templates of other tools by their names, and the file of ours that writes the same text.

Comes in: the name of a template. Goes out: a path for data.template_path, and what is not quite the same. Axolotl's
texts were read in its repository (utils/chat_templates/templates, 2025), of LLaMA-Factory's (data/template.py, 0.9.5)
chatml, gemma, gemma3, deepseek3 and qwen3_nothink; its others stand here by the published format that they name. Every
other name is refused, as another text is another training.

    OF_AXOLOTL["llama3"]  ->  Match("chat_templates/llama3.jinja")

Worst bug: a model that is trained on another text than before (tests/config/converting/test_from_axolotl.py).
"""

from __future__ import annotations

from typing import NamedTuple

from .draft import Draft
from .foreign import Entry


class Match(NamedTuple):
    """data.template_path, and how its text differs; '' where it does not."""

    path: str
    differs: str = ""


_CHATML = Match("chat_templates/default.jinja")
_QWEN3 = "the model's own template is taken: it says where an empty block of thinking stands, and none is trained"
_FALLBACK = "tokenizer_default_fallback_"
_PHI_4 = "rows without a system message get none; there they get that of Phi-4-reasoning (data.datasets.NAME.system)"
_NO_BOS = "the text begins without BOS"
OF_AXOLOTL = {
    "tokenizer_default": Match("auto"),
    "chatml": _CHATML,
    "gemma": Match("chat_templates/gemma2.jinja"),
    "gemma3": Match("chat_templates/gemma3.jinja"),
    "llama3": Match("chat_templates/llama3.jinja"),
    "mistral_v2v3": Match("chat_templates/mistral.jinja", "a system text stands before the first question"),
    "phi_3": Match("chat_templates/phi3.jinja", _NO_BOS),
    "phi_35": Match("chat_templates/phi3.jinja"),
    "phi_4": Match("chat_templates/phi4.jinja", _PHI_4),
    "deepseek_v3": Match("chat_templates/deepseek.jinja"),
    "qwen_25": Match("chat_templates/qwen2.5.jinja"),
    "qwen3": Match("auto", "the model's own template is taken, which is that of Qwen3 for a Qwen3 only"),
}
OF_LLAMA_FACTORY = {
    "chatml": _CHATML,
    "qwen3_nothink": _CHATML,
    "qwen": Match("chat_templates/qwen2.5.jinja"),
    "qwen3": Match("auto", _QWEN3),
    "llama3": Match("chat_templates/llama3.jinja"),
    "mistral": Match("chat_templates/mistral.jinja"),
    "gemma": Match("chat_templates/gemma2.jinja"),
    "gemma2": Match("chat_templates/gemma2.jinja"),
    "gemma3": Match("chat_templates/gemma3.jinja"),
    "phi": Match("chat_templates/phi3.jinja"),
    "phi4": Match("chat_templates/phi4.jinja"),
    "deepseek3": Match("chat_templates/deepseek.jinja"),
    "smollm2": Match("chat_templates/smollm2.jinja"),
}


def settle_own_template(draft: Draft, name: Entry | None, jinja: Entry | None) -> None:
    """Set the chat template that an Axolotl config, or one of its data sets, names: by its name, or as a file."""
    if jinja is not None and (name is None or name.text() == "jinja"):
        text = jinja.text() or ""
        if "{%" in text or "{{" in text or "\n" in text:
            draft.refuse(jinja, "a template stands in a file of its own here.", cure="Save it, and name the file.")
        else:
            draft.put("data.template_path", text, jinja)
    elif name is not None and (name.text() or "").startswith(_FALLBACK):
        draft.put("data.template_path", "auto", name)
        draft.differ(name, "a model without a template of its own gets the ChatML of chat_templates/default.jinja")
    elif name is not None:
        settle_template(draft, name, OF_AXOLOTL)


def settle_template(draft: Draft, entry: Entry, known: dict[str, Match]) -> None:
    """Set data.template_path, or refuse a name that is not known; two different ones cannot both hold."""
    name = entry.text()
    if name is None:
        return
    if name not in known:
        expected = "one of " + ", ".join(known)
        cure = "Write its text into a Jinja file, take this line away, and point data.template_path at the file."
        draft.refuse(entry, "nothing here writes the text of this template.", expected, cure)
        return
    match, earlier = known[name], draft.value("data.template_path")
    if earlier not in (None, match.path):
        draft.refuse(entry, f"another template was named before, {earlier}, and there is one for all data sets here.")
        return
    draft.put("data.template_path", match.path, entry)
    if match.differs:
        draft.differ(entry, match.differs)
