#!/usr/bin/env python3
"""Random templates through jinja2 (as transformers sets it up) and through a built modu: the same text, or an error from both.
    compare_random.py MODU [FIRST_SEED COUNT]        Needs: pip install jinja2==3.1.6."""
import json
import random
import subprocess
import sys
import tempfile

import make_fixtures

VALUES = ["s", "ko", "mixed", "empty", "spaces", "n", "neg", "zero", "f", "t", "fa", "no", "list", "words", "nested", "d", "people", "html", "lines", "messages", "missing",
          "tools", "1", "0", "-1", "2", "3.5", "'a'", "'abc'", "'a b  c'", "''", "'%s'", "'x-y'", "[]", "{}", "[1, 2, 3]", "('a', 1)", "{'k': 1, 'z': [2]}", "none", "true", "false",
          "messages[0]", "people[1].name", "'1.50'", "'\\n'", "' x '", "range(4)", "'Ünï'", "'a1'", "10", "1e3", "[[2, 'b'], [1, 'a']]", "['b', none]", "'l'", "'name'"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "**"]
METHODS = ["upper()", "lower()", "strip()", "split()", "split({e})", "split({e}, 1)", "rsplit(' ', 1)", "replace({e}, {e})", "replace('a', 'b', 1)", "startswith({e})", "endswith({e})",
           "title()", "capitalize()", "strip({e})", "lstrip()", "rstrip({e})", "join({e})", "find({e})", "rfind({e})", "count({e})", "index({e})", "isdigit()", "isalpha()", "isupper()",
           "items()", "keys()", "values()", "get({e})", "get({e}, {e})", "format({e}, {e})", "splitlines()", "zfill({e})", "center({e})", "ljust({e}, '*')", "partition({e})",
           "removeprefix({e})", "removesuffix({e})", "copy()", "swapcase()", "casefold()", "encode()", "isspace()", "isnumeric()", "isdecimal()", "isidentifier()", "isalnum()", "istitle()",
           "rpartition({e})", "expandtabs()", "rjust({e})", "lstrip({e})", "isascii()", "isprintable()", "islower()", "rindex({e})", "splitlines(true)", "split(sep={e}, maxsplit=1)", "translate({e})", "format_map({e})"]
FILTERS = ["upper", "lower", "trim", "trim({e})", "length", "count", "first", "last", "list", "join", "join({e})", "sort", "sort(reverse=true)", "sort(attribute={e})", "unique", "reverse", "string", "int",
           "int({e})", "float", "abs", "round", "round({e})", "round(1, 'floor')", "default({e})", "default({e}, true)", "d({e})", "tojson", "tojson(indent={e})", "tojson(indent=2, sort_keys=true)",
           "tojson(ensure_ascii=true)", "safe", "escape", "e", "forceescape", "replace({e}, {e})", "replace({e}, {e}, 1)", "map({e})", "map(attribute={e})", "map('upper')", "map('int') | list",
           "select({e})", "select('string') | list", "reject('none') | list", "selectattr({e}) | list", "selectattr('role', 'equalto', {e}) | list", "rejectattr({e}, 'defined') | list", "groupby({e})",
           "groupby('age') | list", "batch({e}) | list", "slice({e}) | list", "dictsort", "dictsort(true, 'value')", "items | list", "max", "min", "sum", "sum(start={e})", "indent", "indent({e})",
           "indent({e}, true)", "title", "capitalize", "wordcount", "truncate({e})", "truncate(5, true, '..', 0)", "center({e})", "urlencode", "striptags", "filesizeformat", "format({e})", "pprint",
           "wordwrap({e})", "wordwrap(5, false)", "wordwrap(4, true, '|')", "urlize", "xmlattr", "attr({e})", "list | length", "map('string') | join(', ')", "sort(case_sensitive=true)", "min(attribute={e})",
           "unique(attribute={e}) | list", "map(attribute='name', default={e}) | list", "filesizeformat(true)", "sort(attribute='name,age')", "sort(attribute='1') | list"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "mapping", "sequence", "iterable", "boolean", "true", "false", "odd", "even", "divisibleby({e})", "equalto({e})", "eq {e}",
         "in({e})", "in {e}", "sameas({e})", "lower", "upper", "callable", "gt({e})", "lt({e})", "ne({e})", "escaped", "filter", "test", "ge({e})", "not none", "not string", "not in {e}"]


class Random:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names = []

    def fill(self, text, depth):
        while "{e}" in text:
            text = text.replace("{e}", self.expression(depth - 1), 1)
        return text

    def value(self):
        return self.r.choice(self.names if self.names and self.r.random() < 0.4 else VALUES)

    def expression(self, depth=3):
        r = self.r
        if depth <= 0:
            return self.value()
        e = lambda: self.expression(depth - 1)
        kind = r.randrange(14)
        if kind < 2:
            return self.value()
        if kind == 2:
            return f"{e()} {r.choice(BINARY)} {e()}"
        if kind == 3:
            return f"({e()})"
        if kind < 6:
            return f"({e()}).{self.fill(r.choice(METHODS), depth)}"
        if kind < 9:
            return f"{e()} | {self.fill(r.choice(FILTERS), depth)}"
        if kind == 9:
            return f"{e()} is {self.fill(r.choice(TESTS), depth)}"
        if kind == 10:
            return f"{e()} if {e()}" + (f" else {e()}" if r.random() < 0.7 else "")
        if kind == 11:
            piece = r.choice(["{0}", "{0}:{1}", ":{0}", "{0}:", "::-1", "{0}:{1}:2", "-1", "0", "'name'", "'role'", "1:", ":-1", "::2", "-2:"]).format(e(), e())
            return f"({e()})[{piece}]"
        if kind == 12:
            return f"({e()}).{r.choice(['name', 'role', 'content', 'a', 'b', 'age', 'tags', '0', 'items', 'x', 'type', 'function'])}"
        return r.choice(["not {0}", "-{0}", "[{0}, {1}]", "{{'p': {0}, 'q': {1}}}", "({0}, {1})", "dict(a={0})", "range({0})", "namespace(v={0}).v", "+{0}", "dict({0})", "[{0}]", "lipsum is defined"]).format(
            e(), e())

    def block(self, depth):
        r = self.r
        dash = lambda: r.choice(["", "", "-"])
        tag = lambda text: "{%" + r.choice(["", "-", "", "", "+"]) + f" {text} " + dash() + "%}"
        text = lambda: r.choice(["", " ", "\n", "x", "\n  ", "  \n", "text\n", "\n\n", "<|im_start|>", "\t", " a "])
        body = lambda: text() + self.body(depth - 1) + text()
        kind = r.randrange(12)
        if depth <= 0 or kind < 4:
            return "{{" + dash() + " " + self.expression(r.choice([1, 2, 3])) + " " + dash() + "}}"
        if kind == 4:
            out = tag(f"if {self.expression(2)}") + body()
            if r.random() < 0.4:
                out += tag(f"elif {self.expression(2)}") + body()
            return out + (tag("else") + body() if r.random() < 0.5 else "") + tag("endif")
        if kind < 7:
            target = r.choice(["x", "y", "m", "k, v", "a, b"])
            source = self.expression(1) if r.random() < 0.4 else r.choice(["list", "words", "messages", "people", "d.items()", "range(3)", "nested", "mixed", "messages[::-1]", "d | dictsort", "[[1, 2], [3, 4]]", "d"])
            out = tag(f"for {target} in {source}" + (f" if {self.expression(1)}" if r.random() < 0.2 else ""))
            old = list(self.names)
            self.names += target.split(", ") + ["loop.index", "loop.first", "loop.last", "loop.previtem", "loop.nextitem", "loop.index0", "loop.length", "loop.revindex", "loop.depth",
                                                "loop.changed(x)", "loop.cycle('p', 'q')"]
            out += body()
            if r.random() < 0.15:
                out += tag(f"if {self.expression(1)}") + tag(r.choice(["break", "continue"])) + tag("endif") + body()
            self.names = old
            return out + (tag("else") + body() if r.random() < 0.2 else "") + tag("endfor")
        if kind == 7:
            name = r.choice(["u", "w", "z2"])
            out = tag(f"set {name} = {self.expression(2)}") if r.random() < 0.6 else tag(f"set {name}" + r.choice(["", " | upper", " | trim"])) + body() + tag("endset")
            self.names.append(name)
            return out
        if kind == 8:
            out = tag("macro mac(p, q=" + self.expression(1) + ")")
            old, self.names = self.names, ["p", "q", "varargs", "kwargs", "caller"]
            out += body()
            self.names = old
            return out + tag("endmacro") + "{{ mac(" + r.choice(["{0}", "{0}, {1}", "p={0}", "{0}, q={1}", "", "{0}, {1}, 3", "*{0}", "**{0}"]).format(self.expression(1), self.expression(1)) + ") }}"
        if kind == 9:
            return (tag("set ns = namespace(v=" + self.expression(1) + ")") + tag("for i in range(3)") + tag("set ns.v = " + r.choice(["ns.v ~ i", "ns.v + i", "i", "[ns.v, i]"])) + tag("endfor") + "{{ ns.v }}")
        if kind == 10:
            return r.choice([tag(f"with x = {self.expression(1)}") + body() + tag("endwith"), tag("filter " + r.choice(["upper", "trim", "indent(2)", "replace('a', 'b')"])) + body() + tag("endfilter"),
                             tag("macro c(z)") + "[{{ caller(z) }}]" + tag("endmacro") + tag(f"call(y) c({self.expression(1)})") + "{{ y }}" + body() + tag("endcall"),
                             tag("raw") + "{{ x }} {% y %}" + tag("endraw"), "{#" + dash() + " comment " + dash() + "#}"])
        return text()

    def body(self, depth):
        return "".join(self.block(depth) for _ in range(self.r.choice([1, 1, 2, 3])))


def template(seed):
    maker = Random(seed)
    return maker.body(3) if seed % 2 else "{{ " + maker.expression(3) + " }}"


def expected(env, source):
    try:
        return env.from_string(source).render(**make_fixtures.VARIABLES)
    except RecursionError:
        raise
    except Exception as error:  # whatever Python raises, ours must be an error too
        return error


def main():
    binary = sys.argv[1]
    first, count = [int(x) for x in sys.argv[2:] + ["0", "500"][len(sys.argv) - 2:]]
    env, bad, errors = make_fixtures.environment(), 0, 0
    for seed in range(first, first + count):
        source = template(seed)
        want = expected(env, source)
        if isinstance(want, str) and any(mark in want for mark in (" at 0x", "<built-in", "<bound method", "<class", "<function", "b'", 'b"')):
            continue  # Python's own addresses, and types that templates cannot make here
        if "random" in source or isinstance(want, (MemoryError, OverflowError)):
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".jinja", encoding="utf-8") as file:
            file.write(source)
            file.flush()
            done = subprocess.run([binary, "render", file.name, "--now", "2025-07-26T12:00:00"], input=json.dumps([make_fixtures.VARIABLES]), capture_output=True, text=True, check=False)
        got = json.loads(done.stdout)[0] if done.returncode == 0 else None
        errors += got is None and not isinstance(want, str)
        if isinstance(want, str) and got != want or not isinstance(want, str) and got is not None:
            bad += 1
            print(f"seed {seed}: {source!a}\n   modu: {got!a} {done.stderr.strip()}\n  jinja: {want!a}")
    print(f"{count} templates, {errors} errors from both, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
