#!/usr/bin/env python3
"""Writes fixtures.json: what Python's jinja2 makes of each template, in the environment that transformers builds for
chat templates. Run by hand (pip install jinja2==3.1.6) when a fixture is added; the tests read only the JSON."""
import datetime
import json
import os
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

assert jinja2.__version__ == "3.1.6", jinja2.__version__
NOW = datetime.datetime(2025, 7, 26, 12, 0, 0)  # 1753531200


class Generation(Extension):
    """{% generation %}: transformers records the span; what is written is the body."""
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


VARIABLES = {
    "s": "Hello, World", "ko": "안녕하세요 세계", "mixed": "aß한😀z", "empty": "", "spaces": "  \t padded \n ",
    "n": 7, "neg": -7, "zero": 0, "f": 2.5, "big": 1e20, "small": 1e-7, "t": True, "fa": False, "no": None,
    "huge": 18446744073709551615,
    "list": [3, 1, 2], "words": ["banana", "Apple", "cherry", "apple"], "nested": [[1, [2, 3]], {"a": [None, True]}],
    "d": {"b": 1, "a": "x", "C": [1, 2]}, "quotes": "it's \"q\" \\ \n\t\u0007é\u200b",
    "people": [{"name": "Kim", "age": 30, "tags": {"x": 1}}, {"name": "lee", "age": 25, "tags": {"x": 2}},
               {"name": "Park", "age": 30}],
    "html": "<a href='x'>&\"</a>", "lines": "one\ntwo\n\nthree\r\nfour",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "안녕"},
                 {"role": "assistant", "content": "<think>\nhm\n</think>\n\n네!"}, {"role": "user", "content": "1+1?"}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "description": "날씨 \"now\" <b>", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "number", "default": 1.0}},
        "required": ["city"]}}}],
}

EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 / 2
8 / 2
7 // 2
-7 // 2
neg // 2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
2 ** 10
2 ** 3 ** 2
2 ** -1
-2 ** 2
2 ** 0.5
1e3
1.5e-7
123456789012345678
1_000
0x1F + 0b11 + 0o17
0.1 + 0.2
1e16
1e15 + 0.5
123456.789e3
f * 2
n * f
huge
huge + 1
big
small
1 / 3
10 ** 20
-f
+n
+t
t + 1
- -n
not n
not not n
n == 7.0
1 == true
'1' == 1
no == none
1 < 2 < 3
1 < 3 < 2
3 >= 3
3 > 3 or 3 <= 3
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1.0}
'a' in 'cat'
'x' not in 'cat'
2 in list
5 not in list
'a' in d
'안' in ko
s ~ n ~ f ~ t ~ no ~ list
'a' ~ missing ~ 'b'
'a' * 3
3 * 'ab'
'a' * -1
list + [4]
list * 2
(1,) + (2, 3)
[1, 'a', none, true, 2.0, [3], (4,), {'k': 'v'}]
{'a': 1, 'b': [1, 2], 3: none}
()
(1,)
[]
{}
d
nested
quotes
[quotes]
['it\'s', "a\"b", 'both\'"']
['é', '\u200b', '\x07', '한😀']
mixed[0] ~ mixed[1] ~ mixed[2] ~ mixed[3] ~ mixed[-1]
ko[1:3]
ko[::-1]
ko[-2:]
ko[:-2]
mixed[::2]
mixed[10:]
mixed[-100:2]
list[-1]
list[1:]
list[::-1]
list[5] is defined
list[0:2][1]
d.a
d['b']
d.missing is undefined
d.C[1]
d['items'] is callable
people[0].tags.x
people.0.name
'abc'.1
s.upper()
s.lower() ~ s.title() ~ s.swapcase()
'hELLO wORLD'.capitalize()
'ß straße ŉ'.upper()
'ΑΣ ΣΑΣ'.lower()
"they're bill's".title()
"they're bill's-friends (and) [more]" | title
spaces.strip() ~ '|'
spaces.lstrip() ~ '|' ~ spaces.rstrip() ~ '|'
'xxhixx'.strip('x')
'abcba'.strip('ab') ~ 'abc'.lstrip('ab') ~ 'cba'.rstrip('ab')
'한글한'.strip('한')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
'  a  b c '.split()
'  a  b c '.split(none, 1)
'  a  b c '.rsplit(None, 1)
''.split(',')
''.split()
lines.splitlines()
lines.splitlines(true)
'</think>' in messages[2].content
messages[2].content.split('</think>')[-1].lstrip('\n')
messages[2].content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')
s.startswith('Hello') and s.endswith('World')
s.startswith(('x', 'H'))
s.startswith('World', 7)
s.replace('l', 'L')
s.replace('l', 'L', 1)
'abc'.replace('', '-')
s.find('o') ~ s.rfind('o') ~ s.find('zz')
ko.find('세')
s.count('l') ~ 'aaaa'.count('aa')
s.index('W')
'-'.join(['a', 'b'])
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('x')
'abc'.removeprefix('a').removesuffix('c')
'abc'.center(10, '*')
'abc'.center(8)
'abc'.ljust(5, '.') ~ 'abc'.rjust(5)
'-5'.zfill(4)
'12'.isdigit() ~ 'a'.isalpha() ~ 'a1'.isalnum() ~ ' '.isspace() ~ 'A'.isupper() ~ 'a'.islower() ~ '한'.isalpha()
'{} and {}'.format(1, 'b')
'{1} {0} {name}'.format('a', 'b', name='n')
'{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:+}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 255, 3)
'{0[a]} {{}}'.format(d)
'{!r}'.format('x')
'%s is %d and %.2f %r %%' % ('a', 3, 1.005, 'q')
'%s' % n
'%5s|%-5s|%05d|%x|%+d' % ('a', 'b', 42, 255, 3)
'%(a)s-%(b)s' % d
'%s' % [1, 2]
d.get('a') ~ d.get('zz') ~ d.get('zz', 'dflt')
d.items()
d.keys()
d.values() | list
d.items() | list
d | items | list
list.index(2) ~ list.count(1)
(1, 2, 1).count(1)
d | length ~ list | length
ko | length
ko | upper
n | upper
words | sort
words | sort(case_sensitive=true)
words | sort(reverse=true)
people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='age,name') | map(attribute='name') | list
people | map(attribute='tags.x', default='none') | list
words | map('upper') | list
words | map('replace', 'a', 'A') | join(',')
[1, 2, 3, 4] | select('odd') | list
[1, 2, 3, 4] | reject('divisibleby', 2) | list
[0, 1, '', 'a', none] | select | list
people | selectattr('age', 'equalto', 30) | map(attribute='name') | join(', ')
people | selectattr('tags') | list | length
people | selectattr('tags', 'defined') | list | length
people | rejectattr('age', 'gt', 26) | map(attribute='name') | first
people | groupby('age') | map('first') | list
words | unique | list
words | unique(case_sensitive=true) | list
list | max ~ list | min
words | max
people | max(attribute='age')
[] | max is undefined
list | sum
people | sum(attribute='age')
[[1], [2]] | sum(start=[])
list | first ~ list | last
[] | first is undefined
list | reverse | list
s | reverse
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3] | batch(2, 'x') | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4] | slice(3, 0) | list
d | dictsort
d | dictsort(by='value', reverse=true) is defined
{'b': 2, 'a': 3} | dictsort(by='value')
missing | default('x')
empty | default('x')
empty | default('x', true)
no | d('y', boolean=true)
'3.7' | int
'abc' | int
'abc' | int(-1)
'0x1f' | int(base=16)
3.9 | int
-3.9 | int
' 42 ' | int
'3.5' | float
'x' | float(1.5)
3 | float
'1e3' | float
2.5 | round
3.5 | round
2.675 | round(2)
1234.5 | round(-2)
5 | round
2.1 | round(0, 'ceil')
2.19 | round(1, 'floor')
-3 | abs
-2.5 | abs
spaces | trim ~ '|'
'xxaxx' | trim('x')
s | replace('o', '0') | lower
s | list
lines | indent
lines | indent(2, true)
lines | indent(width=2, blank=true)
lines | indent('> ')
'a b c' | wordcount
html | escape
html | e | safe
(html | safe) ~ html
('x' | safe) + html
html + ('x' | safe)
'foo bar baz qux' | truncate(9)
'foo bar baz qux' | truncate(9, true)
'foo bar baz qux' | truncate(11)
'foo bar baz qux' | truncate(11, false, '...', 0)
'%s-%s' | format('a', 3)
'abc' | center(9)
'a b&c/d' | urlencode
{'a': 1, 'b c': '&'} | urlencode
'<p>a  <b>b</b></p>' | striptags
1000 | filesizeformat
123456789 | filesizeformat
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
s is string and n is number and n is integer and f is float and d is mapping
s is sequence and s is iterable and list is sequence and d is sequence
n is iterable
t is boolean and t is true and fa is false
no is none and no is not undefined
missing is defined
missing is undefined
n is sameas n
'a' is lower and 'A' is upper
n is in list
2 is in(list)
n is eq 7 and n is gt 3 and n is le 7 and n is ne 8
n is not string
range is callable
'upper' is filter
'odd' is test
range(5) | list
range(1, 10, 3) | list
range(5, 0, -2) | list
range(3)
range(5)[1:3]
range(0) | list
dict(a=1, b=2)
dict([('a', 1)], b=3)
dict(d, z=9)
'yes' if t else 'no'
'yes' if fa
'a' if fa else 'b' if t else 'c'
(1 if t else 2) + 1
t and 'x' or 'y'
fa or no or 'last'
0 or empty or []
s and n
'a' 'b' "c"
'\n\t\\\'\x41\u00e9\U0001F600\101\q' ~ '|'
'line\
next'
namespace(a=1).a
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %-d %p')
strftime_now('')
tools | tojson
tools | tojson(indent=4)
tools[0] | tojson(indent=2, sort_keys=true)
d | tojson(separators=(',', ':'))
d | tojson(indent=none)
quotes | tojson
ko | tojson(ensure_ascii=true)
'😀' | tojson(ensure_ascii=true)
[1.0, 1e20, 0.1, 1e-7, 100000.0, huge, none, true] | tojson
{1: 'a', none: 2, true: 3} | tojson
[] | tojson(indent=2)
{'a': [], 'b': {}} | tojson(indent=2)
(1, 2) | tojson
[[1, 2], {'a': [3]}] | tojson(indent='\t')
html | tojson
'a' | tojson | length
messages | map(attribute='role') | list
messages[0]['role'] == 'system' and messages[1:] | length == 3
messages[::-1][0].content
messages | selectattr('role', 'in', ['user', 'assistant']) | list | length
(messages | last).content
[1, 2, 3][-1] ~ 'x'
{'a': {'b': {'c': 1}}}.a.b.c
[[1, 2], [3, 4]] | map('first') | list
[[1, 2], [3, 4]] | map('join', '-') | list
[3, 1] | sort | first
words | join
words | join('|', )
people | join(', ', attribute='name')
1, 2
('a', 'b')[1]
[1, 2, ]
{'a': 1, }
(none, true, false)
None is none and True and not False
d.update is defined
list.append is defined
d.C is iterable
'abc' | first ~ 'abc' | last
'abc' | list | reverse | join
lines | replace('\n', '⏎')
-1 | abs
-n | abs
n | string + 'x'
[n | string, f | string, t | string, no | string]
1 if missing else 2
missing ~ ''
[missing is defined, d.x is defined, d.x.y is defined if d.x else 'short']
messages | length > 3 and messages[3].role == 'user'
(1, (2, 3)) | tojson
[1, 2] is sequence and [1, 2] is not mapping
not missing
missing == missing2
'%.3f' | format(3.14159)
1.0
100.0 * 3
1e100
-0.0
5 // 0.3
2 ** 62 * 4
'abc' == 'abc' != 'abd'
'a\u0301' | length
'TITLE case' | capitalize
'İ' | lower
'ﬁ' | upper
'a\tb'.expandtabs(4)
'x=1;y=2'.split(';') | map('split', '=') | list is defined
loop is defined
caller is defined
'Abc'.istitle()
'abc'.casefold()
[1,2,3] | random is defined
'1_000' | int
'  ' | trim | length
[['b', 1], ['a', 2]] | sort | tojson
{'x': 1}.items() | list | tojson
[true, false] | sort | tojson
'a.b.c'.split('.', 1)[1]
'aXbXc'.split('X')[::-1] | join('X')
""".strip("\n")

TEMPLATES = [
    "{% for x in list %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in list %}{{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.previtem }} {{ loop.nextitem }} {{ loop.cycle('a', 'b') }}\n{% endfor %}",
    "{% for x in [1,1,2,2,1] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [[1,[2,[3]]],4] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for c in mixed %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for a in [1,2] %}{% for b in [3,4] %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, found=false) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.found }}",
    "{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}block {{ n }}{% endset %}[{{ x }}]",
    "{% set x | upper %}block {{ n }}{% endset %}[{{ x }}]",
    "{% set x | replace('b', 'c') | upper %}block{% endset %}[{{ x }}]",
    "{% if fa %}a{% elif n > 5 %}b{% else %}c{% endif %}",
    "{% if n %}{% set y = 3 %}{% endif %}{{ y }}",
    "{% macro m(a, b=2, c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(*[1, 2]) }} {{ m(**{'a': 5}) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}[{{ m() }}]{{ m.name }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in {{ n }}{% endcall %}",
    "{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) each(list) %}[{{ x }}]{% endcall %}",
    "{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * (fact(n - 1) | int) }}{% endif %}{% endmacro %}{{ fact(10) }}",
    "{% macro m(x) %}{% if caller %}{{ caller() }}{% else %}no caller{% endif %}{% endmacro %}{{ m(1) }}",
    "{% macro m(a, b=a ~ '!') %}{{ b }}{% endmacro %}{{ m('x') }}",
    "{% set g = 1 %}{% macro m() %}{{ g }}{{ later }}{% endmacro %}{% set later = 2 %}{{ m() }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}{{ a }}",
    "{% raw %}{{ not }} {% run %}{% endraw %}",
    "a\n{% raw %}\n  {{ x }}\n{% endraw %}\nb",
    "a {%- raw -%}  b  {%- endraw -%} c",
    "{# comment #}a{# multi\nline #}b",
    "a\n  {# comment #}\nb",
    "a {#- c -#} b",
    "{% if t %}\n  yes\n{% endif %}\nend\n",
    "  {% if t %}\n  yes\n  {% endif %}\nend\n\n",
    "a {%- if t -%}  b  {%- endif -%}  c",
    "a\n\n{%- if t %}\nb\n{%- endif %}\n\nc",
    "  {%+ if t %}x{% endif +%}\ny",
    "{% if t +%}\nx{% endif %}",
    "{{- n -}}  \n z",
    " {{ n }} \n{{ n }}\n",
    "x {{- ' ' + s -}} y",
    "\ttab {% if t %}\n\tz{% endif %}",
    "a\r\n{% if t %}\r\nb\r\n{% endif %}\r\nc",
    "{{ {'a': {'b': 1}} }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ '}}' }}{{ '%}' }}{{ \"{%\" }}",
    "}} %} #} { {",
    "{{ 1 }}{{ 2 }}\n\n{% set x = 1 %}\n\n{{ x }}",
    "{% block a %}in {{ n }}{% endblock %}{% block b %}2{% endblock b %}",
    "{% generation %}\ntext {{ n }}{% endgeneration %}\nmore",
    "{% print n %}{% print 'a', 'b' %}",
    "{% set j = joiner('|') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.current }}",
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m['content'] | trim ~ '\\n' }}{% endfor %}",
    "{% for m in messages %}\n    {%- if m.role == 'user' %}\n        {{- '[INST] ' + m.content + ' [/INST]' }}\n    {%- elif loop.index0 == 0 %}\n        {{- '<<SYS>>' + m.content }}\n    {%- endif %}\n{%- endfor %}",
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ system }}{{ rest | length }}",
    "{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{% if ns.last < 0 and m.role == 'user' %}{% set ns.last = index %}{% endif %}{% endfor %}{{ ns.last }}",
    "{%- macro render(schema, depth=0) -%}{%- if schema is mapping -%}{%- for k, v in schema | dictsort -%}{{ '\\n' ~ '  ' * depth ~ k ~ ':' }}{{ render(v, depth + 1) }}{%- endfor -%}{%- elif schema is string -%}{{ schema }}{%- else -%}{{ schema | tojson }}{%- endif -%}{%- endmacro -%}{{ render(tools[0]) }}",
    "{% for t in tools %}{{ t | tojson(indent=4) | indent(4) }}{% endfor %}",
    "{% for key, value in tools[0].function.parameters.properties | items %}{{ key }}: {{ value['type'] }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% if tools is defined and tools is not none and tools | length > 0 %}T{% endif %}{% if not documents is defined %}N{% endif %}",
    "{{ 'a' if true }}{{ 'b' if false }}",
    "{% set g = [1, 2, 3] | select('odd') %}{{ g | list }}{{ g | list }}",
    "{% set g = [1, 2, 3] | map('string') %}{{ g | first }}{{ g | join }}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% for x in 'abc' | list | reverse %}{{ x }}{% endfor %}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set d2 = dict(d, **{'k': 'v'}) %}{{ d2 | tojson }}",
    "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for x in list recursive %}{{ x }}{% endfor %}",
    "{{ messages[0]['role'] | default('x') }}{{ messages[0]['tool_calls'] | default([]) | length }}",
    "{% macro a() %}{% macro b() %}inner{% endmacro %}{{ b() }}{% endmacro %}{{ a() }}",
    "{%- for message in messages if message.role != 'system' -%}{{ loop.index }}{{ message.role }} {% endfor -%}",
    "{% set content = messages[2].content %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}",
    "", "\n", "\n\n", "plain", "{{ '' }}", "{%%}", "{{}}",
    # errors
    "{{ missing.attribute }}", "{{ missing() }}", "{{ missing + 1 }}", "{{ d.missing.x }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}",
    "{{ raise_exception('no system role') }}", "{{ list.append(4) }}", "{{ d.update({'z': 1}) }}", "{{ d.pop('a') }}", "{{ list.sort() }}",
    "{{ s.__class__ }}{{ s.__class__.__mro__ }}", "{{ ''.__class__.__base__ }}", "{{ range(1000000) }}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}",
    "{{ x | nosuchfilter }}", "{{ x is nosuchtest }}", "{% nosuchtag %}", "{% if t %}", "{% for x in list %}", "{% endif %}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 'a }}", "{{ 1 ",
    "{# open", "{% raw %}x", "{% break %}", "{{ n n }}", "{{ 1 < 'a' }}", "{{ 'a' in 5 }}", "{% for x in 5 %}{% endfor %}", "{{ list | sort(attribute='x.y') }}{{ [1, 'a'] | sort }}",
    "{% set ns = 1 %}{% set ns.x = 2 %}", "{% for a, b in [[1]] %}{% endfor %}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "{{ missing | tojson }}", "{{ range(3) | tojson }}", "{{ n.foo.bar }}", "{{ no.foo }}", "{{ no.foo.bar }}", "{{ n() }}", "{{ s[1:2:0] }}", "{{ -s }}", "{{ 'a' + 1 }}", "{{ none + 1 }}",
    "{{ [1] + (2,) }}", "{{ {'a': 1} + {'b': 2} }}", "{{ missing < 1 }}", "{{ -missing }}", "{{ missing | int }}", "{{ n is divisibleby 0 }}", "{{ '' | first | upper }}[]", "{{ missing | upper }}[]",
    "{{ missing | length }}{{ missing | list }}{{ missing | join }}", "{{ d | first }}{{ d | list }}{{ d | join(',') }}", "{{ 'a' 'b' | upper }}", "{{ s is string is none }}", "{{ 5 | join }}",
    "{{ caller() }}", "{{ s.nosuch() }}", "{{ s.nosuch }}[]", "{{ [][0] }}[]", "{{ [][0].x }}", "{{ d[[1]] }}[]", "{{ {[1]: 2} }}", "{{ 'x'.join([1]) }}", "{{ '%d' % 'a' }}", "{{ '%s %s' % 'a' }}", "{{ '{}'.format() }}",
    "{{ cycler.__init__ }}", "{{ cycler.__init__.__globals__ }}", "{{ namespace.__class__ }}", "{{ (1).__class__ }}[]",
    "{% set true = 1 %}", "{{ not }}", "{% for x in y z %}{% endfor %}", "{{ a.b.c is defined }}", "{{ 'abc'[5] }}[]", "{{ 'abc'['x'] }}[]", "{{ list['x'] }}[]", "{{ list.x }}[]",
]


def main():
    env = environment()
    cases = []
    for line in EXPRESSIONS.replace("\\\nnext", "\\\x00next").split("\n"):
        cases.append("{{ " + line.replace("\x00", "\n") + " }}")
    cases += TEMPLATES
    out = []
    for source in cases:
        if "random" in source:
            continue
        case = {"template": source}
        try:
            case["output"] = env.from_string(source).render(**VARIABLES)
            if " at 0x" in case["output"]:
                continue  # a Python address
        except Exception as error:  # whatever Python raises, ours must be an error too
            case["error"] = type(error).__name__
        out.append(case)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"made_by": "make_fixtures.py, jinja2 " + jinja2.__version__, "variables": VARIABLES, "cases": out}, file,
                  ensure_ascii=False, indent=1)
        file.write("\n")
    print(len(out), "fixtures,", sum("error" in case for case in out), "of them errors", file=sys.stderr)


if __name__ == "__main__":
    main()
