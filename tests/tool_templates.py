"""Chat templates as families of models have them: small, and each with its own form of calls."""

import shutil
import struct
from pathlib import Path

from tests.real_models import smollm2

HERMES = (
    "{%if tools%}<|im_start|>system\n{{tools|tojson}}<|im_end|>\n{%endif%}"
    "{%for m in messages%}<|im_start|>{{m.role}}\n{{m.content}}"
    '{%for c in m.tool_calls or []%}<tool_call>{"name": "{{c.function.name}}", '
    '"arguments": {{c.function.arguments|tojson}}}</tool_call>{%endfor%}<|im_end|>\n{%endfor%}'
    "{%if add_generation_prompt%}<|im_start|>assistant\n{%endif%}"
)
"""A marker, an object, and a closing marker for each call, as Qwen and Hermes have it."""

MISTRAL = (
    "{{bos_token}}{%if tools%}[AVAILABLE_TOOLS] {{tools|tojson}}[/AVAILABLE_TOOLS]{%endif%}"
    "{%for m in messages%}{%if m.tool_calls is defined%}[TOOL_CALLS] ["
    "{%for c in m.tool_calls%}"
    "{%if c.id|length != 9%}{{raise_exception('ids have nine characters')}}{%endif%}"
    '{{(c.function|tojson)[:-1]}}, "id": "{{c.id}}"}{{", " if not loop.last}}{%endfor%}'
    "]{{eos_token}}{%elif m.role == 'assistant'%}{{m.content|trim}}{{eos_token}}"
    "{%elif m.role == 'tool'%}[TOOL_RESULTS] {\"content\": {{m.content|tojson}}, "
    '"call_id": "{{m.tool_call_id}}"}[/TOOL_RESULTS]'
    "{%else%}[INST] {{m.content}}[/INST]{%endif%}{%endfor%}"
)
"""One marker before a list of all calls, each of which has an id."""

LLAMA3 = (
    "{{bos_token}}{%for m in messages%}"
    "{%if m.role == 'user' and tools and loop.first%}<|user|>{{tools|tojson(indent=4)}}\n"
    "{{m.content|trim}}<|eot|>"
    "{%elif 'tool_calls' in m%}"
    "{%if m.tool_calls|length != 1%}{{raise_exception('one call at a time')}}{%endif%}"
    '<|assistant|>{"name": "{{m.tool_calls[0].function.name}}", '
    '"parameters": {{m.tool_calls[0].function.arguments|tojson}}}<|eot|>'
    "{%else%}<|{{m.role}}|>{{m.content|trim}}<|eot|>{%endif%}{%endfor%}"
    "{%if add_generation_prompt%}<|assistant|>{%endif%}"
)
"""No marker, and one call at a time."""

DEEPSEEK = (
    "{%for t in tools or []%}{{t.function.name}}: {{t.function.parameters|tojson}}\n{%endfor%}"
    "{%for m in messages%}{%if m.tool_calls%}<|Assistant|><|calls|>"
    "{%for c in m.tool_calls%}<|call|>function<|sep|>{{c.function.name}}\n```json\n"
    "{{c.function.arguments|tojson}}\n```<|endcall|>{%endfor%}<|endcalls|><|end|>"
    "{%elif m.role == 'assistant'%}<|Assistant|>{{m.content.split('</think>')[-1]}}<|end|>"
    "{%else%}<|User|>{{m.content}}{%endif%}{%endfor%}"
    "{%if add_generation_prompt%}<|Assistant|><think>\n{%endif%}"
)
"""Names and arguments apart, and a model that thinks first."""

QWEN_CODER = (
    "{%if tools%}<|im_start|>system\n{%for t in tools%}{{t.function|tojson}}\n{%endfor%}"
    "<|im_end|>\n{%endif%}"
    "{%for m in messages%}<|im_start|>{{m.role}}{{'\n' + m.content if m.content}}"
    "{%for c in m.tool_calls or []%}{{'\n'}}<tool_call>\n<function={{c.function.name}}>\n"
    "{%for key, value in c.function.arguments|items%}<parameter={{key}}>\n"
    "{{value if value is string else value|tojson|safe}}\n</parameter>\n{%endfor%}"
    "</function>\n</tool_call>{%endfor%}<|im_end|>\n{%endfor%}"
    "{%if add_generation_prompt%}<|im_start|>assistant\n{%endif%}"
)
"""Arguments one by one, each a line or more between its markers; Qwen3-Coder's kind."""

GLM = (
    "[gMASK]<sop>{%if tools%}<|system|>\n{%for t in tools%}{{t|tojson(ensure_ascii=False)}}\n"
    "{%endfor%}{%endif%}{%for m in messages%}<|{{m.role}}|>\n"
    "{%if m.role == 'assistant'%}<think></think>\n{%endif%}{{m.content}}"
    "{%for c in m.tool_calls or []%}{{'\n'}}<tool_call>{{c.function.name}}\n"
    "{%for key, value in c.function.arguments.items()%}<arg_key>{{key}}</arg_key>\n"
    "<arg_value>{{value|tojson(ensure_ascii=False) if value is not string else value}}"
    "</arg_value>\n{%endfor%}</tool_call>{%endfor%}{%endfor%}"
    "{%if add_generation_prompt%}<|assistant|>\n{%endif%}"
)
"""Keys and values one by one, each between markers of its own; GLM-4.5's kind."""

MINIMAX = (
    "{%for t in tools or []%}<tool>{{t.function|tojson}}</tool>\n{%endfor%}"
    "{%for m in messages%}]~b]{{m.role}}\n{{m.content}}{%if m.tool_calls%}{{'\n'}}<calls>\n"
    '{%for c in m.tool_calls%}<invoke name="{{c.function.name}}">\n'
    "{%for key, value in c.function.arguments.items()%}"
    '<parameter name="{{key}}">{{value}}</parameter>\n{%endfor%}</invoke>\n{%endfor%}</calls>'
    "{%endif%}[e~[\n{%endfor%}{%if add_generation_prompt%}]~b]assistant\n{%endif%}"
)
"""One marker around all calls, and keys as attributes; MiniMax-M2's kind."""

WITHOUT_JSON = (
    "{%for t in tools or []%}{{t.function.name}}\n{%endfor%}{%for m in messages%}<|{{m.role}}|>"
    "{{m.content}}{%for c in m.tool_calls or []%}<function={{c.function.name}}>"
    "{%for key, value in c.function.arguments.items()%}<{{key}}>{{value}}</{{key}}>{%endfor%}"
    "</function>{%endfor%}{%endfor%}"
)
"""Arguments in a notation of its own."""


def write_smollm2_with_tools(path: Path) -> Path:
    """The real model, with HERMES in the place of its own template, which knows no tools."""
    shutil.copyfile(smollm2(), path)
    with path.open("r+b") as file:
        head = file.read(16 * 1024 * 1024)
        key = b"tokenizer.chat_template"
        place = head.index(key) + len(key) + struct.calcsize("<I")
        (length,) = struct.unpack_from("<Q", head, place)
        template = HERMES.encode()
        file.seek(place + struct.calcsize("<Q"))
        file.write(template + b"{#" + b" " * (length - len(template) - 4) + b"#}")
    return path
