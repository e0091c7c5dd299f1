"""Records what transformers renders for chat templates, for tests/text/chat_template_test.cc.

usage: python tools/record_templates.py OUT.json MODEL_FOLDER...             (run by hand)
       python tools/record_templates.py OUT.json --published TEMPLATE.jinja...
       python tools/record_templates.py OUT.json --expressions

Takes the templates of the folders (chat_template of tokenizer_config.json) and those written below,
renders every conversation with each, and writes one JSON object: templates, conversations, and per
case their names, the options, and the text or what the template raises. With --published it takes
template files of models of 2025 and 2026, with more conversations and with the variables that such
templates ask for; with --expressions the pieces of Jinja below. Needs transformers and jinja2.
"""
import datetime
import json
import os
import re
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

def call(name, arguments, id=None):
    return {"id": id or "call_" + name, "type": "function", "function": {"name": name, "arguments": arguments}}


SEARCH = {"type": "function", "function": {"name": "search", "description": "Finds pages.\nIn <any> language",
          "parameters": {"type": "object", "properties": {
              "query": {"type": "string", "description": "What to find"}, "kinds": {"type": "array", "items": {"type": "string", "enum": ["news", "web"]}},
              "since": {"type": ["string", "null"], "default": None}, "near": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}},
              "mode": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}, "required": ["query"]}, "strict": True}}
PUBLISHED = {
    "system": CONVERSATIONS["system"],
    "one": CONVERSATIONS["one"],
    "empty": [],
    "empty contents": [{"role": "system", "content": ""}, {"role": "user", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": "x"}],
    "several turns": [{"role": "user", "content": "Größe? 字 👍"}, {"role": "assistant", "content": "1.7 m"}, {"role": "user", "content": "And <b>then</b>?\n"},
                      {"role": "assistant", "content": " None "}, {"role": "user", "content": "Thanks"}],
    "tools": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather in Oslo?"},
              {"role": "assistant", "content": "", "tool_calls": [call("weather", {"city": "Oslo", "t": 1.50, "ok": True, "none": None, "l": [1, "a"], "o": {"k": "v"}}, "abcdefgh1")]},
              {"role": "tool", "content": "{\"sun\": true}", "tool_call_id": "abcdefgh1", "name": "weather"},
              {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "And tomorrow?"}],
    "tool results": [{"role": "user", "content": "Both?"},
                     {"role": "assistant", "content": "I look.", "tool_calls": [call("weather", {"city": "Oslo"}, "c00000001"), call("search", {"query": "a \"b\" <c>", "kinds": []}, "c00000002")]},
                     {"role": "tool", "content": "rain", "tool_call_id": "c00000001", "name": "weather"},
                     {"role": "tool", "content": "[1, 2]", "tool_call_id": "c00000002", "name": "search"}],
    "tool call without content": [{"role": "user", "content": "Go"}, {"role": "assistant", "content": None, "tool_calls": [call("weather", {})]},
                                  {"role": "tool", "content": "done", "tool_call_id": "call_weather", "name": "weather"}],
    "arguments as text": [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "", "tool_calls": [call("weather", "{\"city\": \"Oslo\"}")]},
                          {"role": "tool", "content": "done", "tool_call_id": "call_weather", "name": "weather"}],
    "reasoning": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "reasoning_content": "first\nthen", "reasoning": "first\nthen", "thinking": "first\nthen"},
                  {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Thus.", "reasoning_content": " last ", "reasoning": " last ", "thinking": " last "}],
    "reasoning and tools": [{"role": "user", "content": "Weather?"},
                            {"role": "assistant", "content": "", "reasoning_content": "I need a tool", "reasoning": "I need a tool", "tool_calls": [call("weather", {"city": "Oslo"})]},
                            {"role": "tool", "content": "rain", "tool_call_id": "call_weather", "name": "weather"},
                            {"role": "assistant", "content": "Rain.", "reasoning_content": "good", "reasoning": "good"}],
    "thinking in content": CONVERSATIONS["thinking"],
    "parts": [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, {"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "here"}]},
              {"role": "assistant", "content": [{"type": "text", "text": "I see"}]}, {"role": "user", "content": "ok"}],
    "developer": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "wrong order": CONVERSATIONS["wrong order"],
}
WITH_TOOLS = {"tools": [TOOL, SEARCH], "tool results": [TOOL, SEARCH], "reasoning and tools": [TOOL], "developer": [SEARCH]}
# Variables with which published templates are rendered besides.
VARIABLES = [{"enable_thinking": False, "thinking": False}, {"enable_thinking": True, "thinking": True, "preserve_thinking": True, "clear_thinking": False},
             {"reasoning_effort": "high", "model_identity": "You are a test.", "builtin_tools": ["browser", "python"], "date_string": "1 May 2026"}]

# Pieces of templates: what lewis lacks and refuses by name (tests/text/chat_template_test.cc) is not here. `m` is a message, `d` a dict, `l` a list, `w` words, `s` a text.
EXPRESSIONS = r"""
{{ d }} {{ l }} {{ w }} {{ (1, 'a') }} {{ {'a': {'b': [1.5, none, true]}} }}
{{ ["it's", 'a "b"', 'both \' and "', 'é\n\t\\', '\x00\x7f', '字👍', '\u200b\u2028'] }}
{{ d | string | length }} {{ [1.0, 2] | string }} {{ none | string }} {{ true | string | lower }}
{{ s.upper() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ s.casefold() }} {{ 'ß'.upper() }}
{{ s.strip('ab ') }}|{{ s.lstrip() }}|{{ s.rstrip('x\n') }}|{{ '  x '.strip() }}|
{{ s.find('b') }} {{ s.rfind('b') }} {{ s.count('a') }} {{ s.index('b') }} {{ s.startswith(('x', 'ab')) }} {{ s.endswith('z') }} {{ s.startswith('b', 1) }}
{{ s.split() }} {{ s.split(',') }} {{ s.split(',', 1) }} {{ s.rsplit(',', 1) }} {{ s.splitlines() }} {{ s.partition(',') }} {{ s.rpartition(',') }}
{{ s.replace('a', 'x', 1) }} {{ s.replace(',', '') }} {{ s | replace('a', 'x', 2) }}
{{ '7'.zfill(3) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'a'.center(4) }}|
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }}
{{ 'a1'.isalnum() }} {{ 'a'.isalpha() }} {{ '1'.isdigit() }} {{ '1'.isnumeric() }} {{ '1'.isdecimal() }} {{ ' '.isspace() }} {{ 'a'.islower() }} {{ 'A'.isupper() }} {{ 'Ab'.istitle() }} {{ 'a'.isascii() }} {{ 'a_1'.isidentifier() }}
{{ ', '.join(w) }} {{ '-'.join(['a']) }}
{{ '{} {1}'.format('a') }}
{{ '{} {}'.format('a', 1) }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=3) }} {{ '{:>5}|{:05d}|{:.2f}'.format('a', 42, 3.14159) }} {{ '%s-%d-%.1f-%x-%5s|%-5s|%%' % ('a', 3, 2.55, 255, 'b', 'c') }} {{ '%s' % 'x' }} {{ '%(a)s' % {'a': 1} }}
{{ '%s %s' | format('a', 2) }}
{{ 'ab' * 3 }} {{ [1] * 2 }} {{ [1] + [2, 'x'] }} {{ (1,) + (2,) }} {{ 'a' ~ 1 ~ none ~ 1.5 ~ true }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ 5.5 % 2 }}
{{ 1 + 1.0 }} {{ 0.1 * 3 }} {{ 10 ** 20 }} {{ 1e3 }} {{ 1_000 }} {{ 0x1f }} {{ 0b101 }} {{ 0o17 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ none == false }}
{{ s[0] }}{{ s[-1] }}{{ s[1:3] }}{{ s[::-1] }}{{ s[::2] }}{{ s[:-1] }}{{ s[5:100] }} {{ l[-2:] }} {{ l[::-1] }} {{ w[1:][0] }}
{{ d['k'] }} {{ d.k }} {{ d['missing'] }}{{ d.missing }} {{ d.get('missing') }} {{ d.get('missing', 'x') }} {{ d['items'] }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.items() | list }}
{{ d | items | list }} {{ d | length }} {{ 'k' in d }} {{ 'z' not in d }} {{ d is mapping }} {{ d | list }} {{ d | first }}
{% for k in d %}{{ k }};{% endfor %} {% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k, v in d | dictsort %}{{ k }};{% endfor %} {% for k, v in d | dictsort(reverse=true) %}{{ k }};{% endfor %}
{{ {'B': 1, 'a': 2, 'C': 3} | dictsort }} {{ {'B': 1, 'a': 2, 'C': 3} | dictsort(true) }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }} {{ {'b': 1, 'a': 2} | dictsort(false, 'value', true) }}
{{ dict(a=1, b='x') }} {{ dict({'a': 1}, b=2) }} {{ dict([('a', 1)]) }} {{ dict(d, k='new')['k'] }}
{{ dict(zip(['a'], [1])) }}
{% set ns = namespace(a=1, b=[]) %}{% set ns.a = ns.a + 1 %}{% set ns.b = ns.b + [ns.a] %}{{ ns.a }} {{ ns.b }} {{ ns.c is defined }}
{% set ns = namespace({'x': 3}) %}{{ ns.x }} {{ ns['x'] }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set a, (b, c) = [1, [2, 3]] %}{{ c }}
{% set x %}  block {{ 1 }}
 {% endset %}{{ x }}|{{ x | trim }}|
{% set x | upper %}abc{% endset %}{{ x }}
{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}
{% for x in l if x is number %}{{ loop.index }}{{ x }}{% else %}none{% endfor %} {% for x in [] %}a{% else %}empty{% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{{ loop.previtem | default('-') }}{{ loop.nextitem | default('-') }}{{ loop.depth }};{% endfor %}
{% for x in [{'v': 1, 'c': [{'v': 2, 'c': []}]}] recursive %}{{ x.v }}{{ loop(x.c) }}{{ loop.depth }}{% endfor %}
{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{{ range(3) | list }} {{ range(1, 10, 3) | list }} {{ range(3, 0, -1) | list }} {{ range(3)[1] }} {{ range(4) | length }}
{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, c=3) }}
{% macro f(a, b) %}{{ a }}|{{ b }}|{{ b is defined }}{% endmacro %}{{ f(1) }}
{% macro outer(x) %}{{ inner(x) }}{% endmacro %}{% macro inner(x) %}<{{ x }}>{% endmacro %}{{ outer(1) }}
{% macro rec(n) %}{{ n }}{% if n > 0 %}{{ rec(n - 1) }}{% endif %}{% endmacro %}{{ rec(3) }}
{% set y = 1 %}{% macro f() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ f() }}
{% macro f() %}{{ later }}{% endmacro %}{% set later = 5 %}{{ f() }}
{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{% endcall %}
{% macro f(l) %}{% for x in l %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) f([1, 2]) %}<{{ x }}>{% endcall %}
{% macro f(a) %}  {{ a }} {% endmacro %}{{ f(1) | trim }}{{ f(2) | length }}{{ 'x' + f(3) }}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter trim | upper %} ab {% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% if x is not defined %}u{% endif %}{{ x | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ none | default('d', boolean=true) }} {{ x | d }}
{{ 1 if true }}{{ 1 if false }}{{ 'a' if x is defined else 'b' }} {{ (x or 'y') }} {{ '' or 'z' }} {{ 0 and 1 }} {{ 'a' and 'b' }} {{ not x }} {{ not '' }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }} {% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}
{{ 1 is odd }} {{ 2 is even }} {{ 6 is divisibleby(3) }} {{ 1 is integer }} {{ 1.0 is float }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ true is boolean }} {{ 'a' is string }} {{ none is none }} {{ [] is sequence }} {{ {} is iterable }} {{ 1 is iterable }}
{{ 'A' is upper }} {{ 'a' is lower }} {{ 1 is sameas(1) }} {{ none is sameas none }} {{ 3 is in [1, 3] }} {{ 'a' is in 'cat' }} {{ 1 is eq 1 }} {{ 2 is gt(1) }} {{ 1 is ne 2 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'a' is escaped }}
{{ x is undefined }} {{ x.y is defined }} {{ d.k is defined }} {{ d.zz is undefined }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }}
{{ x.y }}
{{ x['y'] }}
{{ x + 1 }}
{{ x | length }} {{ x | upper }}| {{ x | list }} {{ x | join(',') }}| {{ x ~ 'a' }} {{ x == none }} {{ x in ['a'] }}
{{ none.y }}|{{ none is mapping }}
{{ none + 'a' }}
{{ 'a' + 1 }}
{{ 'a' in none }}
{{ undefined_function() }}
{{ s.no_such_method() }}
{{ l | no_such_filter }}
{{ l.append(1) }}
{{ d.update({'z': 1}) }}
{{ d.pop('k') }}
{{ ''.__class__ }}|
{{ raise_exception('own words') }}
{{ l | tojson }} {{ d | tojson }} {{ d | tojson(indent=2) }} {{ d | tojson(indent=4, ensure_ascii=true) }} {{ 'a<b>&\'"é\u2028\x7f' | tojson }} {{ (1, 2) | tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ 1e100 | tojson }} {{ [] | tojson(indent=2) }}
{{ d | tojson(separators=(',', ':')) }} {{ d | tojson(sort_keys=true) }} {{ 'x' | tojson(ensure_ascii=False) }} {{ {'a': {}} | tojson(indent=1) }}
{{ x | tojson }}
{{ l | map('string') | list }} {{ w | map('upper') | join(' ') }} {{ [{'a': 1}, {'a': 2}, {}] | map(attribute='a') | list }} {{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }} {{ [{'a': {'b': 3}}] | map(attribute='a.b') | list }} {{ w | map('replace', 'a', 'x') | list }} {{ [[1, 2], [3]] | map('length') | list }} {{ [[1, 2], [3]] | map('first') | list }}
{{ [1, 'a', none, 2] | select('number') | list }} {{ [0, 1, ''] | select | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ [1, 2, 3] | select('gt', 1) | list }} {{ [1, 2] | select('equalto', 2) | list }} {{ [1, 2] | select('in', [2]) | list }}
{{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list }} {{ [{'a': 1}, {'b': 2}] | selectattr('a') | list }} {{ [{'a': 1}, {'b': 2}] | selectattr('a', 'defined') | list }} {{ [{'a': 1}, {'a': none}] | rejectattr('a', 'none') | list }} {{ [{'a': 'x'}] | selectattr('a', '==', 'x') | list | length }} {{ [{'a': 'x'}] | rejectattr('a', 'in', ['x']) | list }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A', 'c'] | sort(case_sensitive=true) }} {{ [3, 1] | sort(reverse=true) }} {{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }} {{ [1, 2, 1] | unique | list }} {{ ['a', 'A'] | unique | list }} {{ [1, 2, 3] | sum }} {{ [{'a': 2}, {'a': 1}] | sum(attribute='a') }} {{ [1, 2] | sum(start=10) }} {{ [1, 3, 2] | max }} {{ [1, 3, 2] | min }} {{ ['b', 'A'] | max }} {{ [{'a': 2}, {'a': 1}] | max(attribute='a') }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }} {{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 3}] | groupby('a') | list | length }} {% for k, g in [{'a': 1, 'b': 2}, {'a': 2, 'b': 3}] | groupby('a') %}{{ k }}:{{ g | length }};{% endfor %}
{{ 'abc' | first }} {{ 'abc' | last }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }} {{ 'abc' | list }} {{ [] | first }}| {{ [1, 2, 3] | last }} {{ 'abc' | length }} {{ 'abc' | count }}
{{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ '0x1f' | int(base=16) }} {{ 3.9 | int }} {{ '3.5' | float }} {{ 'x' | float(1.5) }} {{ 3.14159 | round(2) }} {{ 2.5 | round }} {{ 2.5 | round(0, 'floor') }} {{ 2.1 | round(method='ceil') }} {{ -3 | abs }} {{ -2.5 | abs }}
{{ 'hello world' | title }} {{ 'hello World' | capitalize }} {{ ' x ' | trim }}| {{ 'xxaxx' | trim('x') }} {{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ 'a\n\nb' | indent(width=2, first=true, blank=true) }} {{ 'a\nb' | indent('> ') }}
{{ 'a b c' | wordcount }} {{ 'hello big world' | truncate(9) }} {{ 'hello big world' | truncate(9, true, '') }} {{ 'ab' | center(6) }}| {{ 'a b&c' | urlencode }} {{ [1, {'a': 'b'}] | pprint }}
{{ '<a>' | e }} {{ '<a>' | escape | string }} {{ '<a>' | safe }} {{ ('<a>' | e) ~ '<b>' }} {{ ['<', 1] | join('&') }} {{ '<' | forceescape }}
{% raw %}{{ not rendered }}{% endraw %} {{ '{{' }} {{ "a" "b" }} {{ 'tab\there' }} {{ '\u00e9\x41' }} {{ "new\nline" }} {{ 'q\'q' }} {{ "\\" }}
a  {%- if true %}  b  {%- endif %}  c  {%+ if true %}  d{% endif +%} e
x{# comment {{ 1 }} #}y {#- z -#} w
{{- 1 -}}   {{- 2 }}   {{ 3 -}}   
{% for m in messages %}{{ m.role }}:{{ m['content'] }}:{{ m.get('name', 'no') }}:{{ m.tool_calls is defined }};{% endfor %} {{ messages[-1].role }} {{ messages | length }} {{ messages[0] }}
{{ m.content.split('</think>')[-1].lstrip('\n') }} {{ m.content.split('<think>')[0] | trim }} {{ '<think>' in m.content }} {{ (m.content.split('</think>')|first) }} {{ m.content | length > 3 }}
{% for x in 3 %}{% endfor %}
{{ none | length }}
{{ 3 | join }}
{{ 1 / 0 }}
{{ [1, 2] | map(attribute='x') | list }} {{ [1] | map('no_such') | list }}
{% if 'a' is no_such_test %}{% endif %}
{% block b %}x{{ s }}{% endblock %}
{% autoescape true %}{{ '<a>' }}{% endautoescape %} {% autoescape false %}{{ '<a>' }}{% endautoescape %}
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %B %Y, %H:%M %p %a %A %b') }}
{{ m.content is string and m.content | length }} {{ (m.content or '') + 'x' }} {{ m.role in ['user', 'system'] }} {{ m.role == 'user' or m.role == 'x' }}
{{ w | join(', ', attribute=0) }} {{ w[0] ~ w[-1] }} {{ w | first | upper }} {{ w.index('bc') }} {{ l.count(1) }} {{ w | map('length') | sum }}
{{ [1, [2, [3]]] }} {{ [[]] }} {{ {} }} {{ () }} {{ '' }}| {{ [none, true, false] }} {{ {'a': none} }} {{ -0.0 }} {{ 1e22 }} {{ 123456789012345678901234567890 }}
{% set l2 = l + ['x'] %}{{ l2 }}{% set l2 = l2[:-1] %}{{ l2 }} {{ l | length }} {{ l == l2 }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }}
{%- set messages = messages[1:] if messages[0].role == 'user' else messages %}{{ messages | length }}
{{ '%02d:%s' | format(5, 'x') }} {{ "%s" | format(l) }} {{ '{}'.format(l) }} {{ '{:,}'.format(1234567) }} {{ '{0:>4}{1:<3}|{2:^5}|{3:+d}|{4:e}'.format(1, 2, 3, 4, 5.0) }}
""".strip("\n")


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(1970, 1, 1) + datetime.timedelta(seconds=NOW)


def token(value):
    return value["content"] if isinstance(value, dict) else value


def render(template, messages, case):
    try:
        rendered = chat_template_utils.render_jinja_template(
            conversations=[chat_template_utils._normalize_chat_messages(messages)], tools=case.get("tools"), chat_template=template["source"],
            add_generation_prompt=case["add_generation_prompt"], **template["special"], **case.get("variables", {}))
        case["text"] = rendered[0][0]
    except jinja2.exceptions.TemplateError as e:
        case["raises"] = str(e) if type(e) is jinja2.exceptions.TemplateError else ""  # the template's own words, or jinja2's
    except (TypeError, AttributeError, ValueError, KeyError, ArithmeticError, RecursionError):
        case["raises"] = ""  # Python's words
    return case


def folder_cases(folders):
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
                cases.append(render(template, messages, case))
    return templates, CONVERSATIONS, cases


def published_cases(files):
    # The sources stay in their files.
    templates = {os.path.basename(file)[:-len(".jinja")]: {"source": open(file, encoding="utf8").read(), "special": {"bos_token": "<s>", "eos_token": "</s>"}} for file in files}
    cases = []
    for name, template in templates.items():
        for conversation, messages in PUBLISHED.items():
            for prompt, variables in [(False, None), (True, None)] + [(True, v) for v in VARIABLES if any(k in template["source"] for k in v)]:
                case = {"template": name, "conversation": conversation, "add_generation_prompt": prompt}
                if conversation in WITH_TOOLS:
                    case["tools"] = WITH_TOOLS[conversation]
                if variables:
                    case["variables"] = {k: v for k, v in variables.items() if k in template["source"]}
                cases.append(render(template, messages, case))
    return {name: {"special": t["special"]} for name, t in templates.items()}, PUBLISHED, cases


PIECES = {"d": {"k": "v", "n": 1, "L": [1, "a"], "items": "own"}, "l": [1, "a", None, 2.5, True], "w": ["abc", "bc", "c"], "s": " ab,a b\n", "m": CONVERSATIONS["thinking"][1]}


def pieces(lines):
    """The templates of EXPRESSIONS: each {{ ... }} of a line that has nothing else, or a whole line; a block goes on."""
    block = ""
    for line in lines.split("\n"):
        block += line
        if block.count("{% set x %}") > block.count("{% endset %}"):
            block += "\n"
            continue
        alone = "{%" not in block and "{#" not in block and "-" not in re.sub(r" \}\}.*?\{\{ ", "", block)[:3] + block[-3:]
        yield from re.findall(r"\{\{ .*? \}\}\|?", block) if alone else [block]
        block = ""


def expression_cases():
    variables = PIECES
    templates, cases = {}, []
    for source in pieces(EXPRESSIONS):
        name = f"{len(templates):03}"
        templates[name] = {"source": source, "special": variables}
        case = {"template": name, "conversation": "thinking", "add_generation_prompt": False}
        cases.append(render(templates[name], CONVERSATIONS["thinking"], case))
    return {name: {"source": t["source"]} for name, t in templates.items()}, {"thinking": CONVERSATIONS["thinking"]}, cases


def main(out, arguments):
    chat_template_utils.datetime = FixedTime
    published = arguments[0] == "--published"
    if arguments[0] == "--expressions":
        templates, conversations, cases = expression_cases()
    else:
        templates, conversations, cases = published_cases(arguments[1:]) if published else folder_cases(arguments)
    with open(out, "w", encoding="utf8") as f:
        json.dump({"now": NOW, "special": PIECES, "templates": templates, "conversations": conversations, "cases": cases}, f, ensure_ascii=False, indent=None if published else 1)
        f.write("\n")
    print(len(templates), "templates,", len(cases), "cases,", sum("raises" in c for c in cases), "errors")


main(sys.argv[1], sys.argv[2:])
