"""Records what transformers renders for chat templates, for tests/text/chat_template_test.cc.

usage: python tools/record_templates.py OUT.json MODEL_FOLDER...   (run by hand)

Takes the templates of the folders (chat_template of tokenizer_config.json) and those written below,
renders every conversation with each, and writes one JSON object: templates, conversations, and per
case their names, the options, and the text or what the template raises. Needs transformers and jinja2.
"""
import datetime
import json
import os
import sys

import jinja2
from transformers.utils import chat_template_utils

NOW = 1721952000  # 26 July 2024, 00:00

# Written for this test, in the style of well-known models.
TEMPLATES = {
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}""",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message comes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "gemma": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
""",
    "generation": """{% macro head(role) %}<|{{ role }}|>
{% endmacro %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{ head('assistant') }}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}

{%- else %}
{{- head(message.role) + message.content -}}
{%- endif %}
  {%- if loop.index > 3 %}{% break %}{% endif %}
{% endfor %}
{{ head('assistant') if add_generation_prompt }}""",
    "python": """{%- set ns = namespace(n=0, names=[]) %}
{%- for m in messages %}
  {%- if m.role == 'system' %}{% continue %}{% endif %}
  {%- set ns.n = ns.n + 1 %}
  {%- set ns.names = ns.names + [m.role] %}
  {%- set c = m.content if m.content is string else m.content | tojson %}
{{ ns.n }}|{{ m.role.upper() }}|{{ m.role | capitalize }}|{{ c.strip().split(' ')[0] }}|{{ c.split('\\n')[-1] }}|{{ c | length }}|{{ c[:5] }}|{{ c[-3:] }}|{{ c.replace('a', 'A') | trim }}|{{ c.startswith('W') }}|{{ m.get('name', 'nobody') }}|{{ m.missing is defined }}|{{ m.content is string }}|{{ loop.last }}
{% endfor %}
names: {{ ns.names | join(', ') }} {{ ns.names }} {{ none }} {{ true }} {{ 1.5 }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 3 }}
{% for k, v in messages[0].items() %}{{ k }}={{ v | tojson }};{% endfor %}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | map(attribute='role') | unique | list | tojson }} {{ messages[::-1][0].role }} {{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | join('+') }}
{{ messages[0] | tojson(indent=2) }}
{{ messages[0] | tojson(sort_keys=true, separators=(',', ':')) }}
{{ {'b': 1, 'a': [1.0, 1e16, 1e-05, 0.1, -0.0, 123456789012345678, none, true]} | tojson }}
{{ "<a href='x'>é & \\u2028</a>" | tojson }} {{ "é" | tojson(ensure_ascii=true) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %j %A %B') }}
{{ messages is sequence }} {{ 'a' is sequence }} {{ {} is sequence }} {{ 1 is sequence }} {{ none is iterable }} {{ 'a' is iterable }} {{ messages is mapping }} {{ nothing is iterable }} {{ range(2) is iterable }}
{{ ['a', 'b'] | first }}{{ ['a', 'b'] | last }} {{ 'x' ~ 1 ~ none }} {{ 'a' in 'cat' }} {{ 'role' in messages[0] }} {{ undefined_name }}{{ undefined_name | default('none here') }}
{%- if tools %}

tools: {{ tools | length }}{% endif %}
{{ '%s is %d' | format('x', 3) }} {{ '  pad' | indent(2) }} {{ 'a b c'.title() }} {{ 'x,y'.split(',') | last }} {{ 'abc' | upper | lower | replace('b', '') }} {{ range(3) | list }} {{ (1, 2) | sum }}
{{- ' end' -}}
   {# comment #}
    """,
}

TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather's \"state\" in <city> & more",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
                       "required": ["city"]}}}
CONVERSATIONS = {
    "one": [{"role": "user", "content": "What is 2+2?"}],
    "answered": [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "It is 4."}],
    "system": [{"role": "system", "content": "  Be brief. \n"}, {"role": "user", "content": "Hello\n\nworld  "},
               {"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "Größe? 字 👍 <b>\"'\\"}],
    "wrong order": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}],
    "thinking": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "<think>\nbecause\n</think>\n\nSo."},
                 {"role": "user", "content": "And?"}],
    "tools": [{"role": "user", "content": "Weather in Oslo?"},
              {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefgh1", "type": "function",
               "function": {"name": "weather", "arguments": {"city": "Oslo", "t": 1.50, "ok": True, "none": None, "l": [], "o": {}}}}]},
              {"role": "tool", "content": "{\"sun\": true}", "tool_call_id": "abcdefgh1"}],
    "empty content": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(1970, 1, 1) + datetime.timedelta(seconds=NOW)


def token(value):
    return value["content"] if isinstance(value, dict) else value


def main(out, folders):
    chat_template_utils.datetime = FixedTime
    templates = {name: {"source": source, "special": {"bos_token": "<s>", "eos_token": "</s>"}} for name, source in TEMPLATES.items()}
    for folder in folders:
        config = json.load(open(os.path.join(folder, "tokenizer_config.json"), encoding="utf8"))
        special = {k: token(config[k]) for k in ("bos_token", "eos_token", "unk_token", "pad_token") if config.get(k)}
        templates[os.path.basename(folder)] = {"source": config["chat_template"], "special": special}
    cases = []
    for name, template in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            for prompt in (False, True):
                case = {"template": name, "conversation": conversation, "add_generation_prompt": prompt}
                if conversation == "tools":
                    case["tools"] = [TOOL]
                try:
                    rendered = chat_template_utils.render_jinja_template(
                        conversations=[messages], tools=case.get("tools"), chat_template=template["source"],
                        add_generation_prompt=prompt, **template["special"])
                    case["text"] = rendered[0][0]
                except jinja2.exceptions.TemplateError as e:
                    case["raises"] = str(e)  # the template's own words
                except TypeError:
                    case["raises"] = ""  # Python's words
                cases.append(case)
    with open(out, "w", encoding="utf8") as f:
        json.dump({"now": NOW, "templates": templates, "conversations": CONVERSATIONS, "cases": cases}, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print(len(cases), "cases,", sum("raises" in c for c in cases), "errors")


main(sys.argv[1], sys.argv[2:])
