// Hostile templates and variables end as errors, quickly and on a flat stack; what cannot be
// reached is not there.
#include <thread>

#include "nlohmann/json.hpp"
#include "server/text/chat_template.h"
#include "tests/catch.h"

using modu::text::ChatTemplate;
using modu::text::TemplateBudget;
using Json = nlohmann::ordered_json;

namespace {

absl::StatusOr<std::string> Render(const std::string& source,
                                   const Json& variables = Json::object(),
                                   const TemplateBudget& budget = {}) {
  auto parsed = ChatTemplate::Parse(source, budget);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(variables, 0);
}

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("hostile templates stop at a budget") {
  const std::vector<std::string> sources = {
      "{{ range(1000000000) | list }}",
      "{{ range(10**30) | length }}",
      "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% "
      "endfor %}{% endfor %}{% endfor %}",
      "{{ '-' * 10**10 }}",
      "{{ '-' * 10**30 }}",
      "{{ [0] * 10**10 }}",
      "{{ ([0] * 1000000) | length }}{{ [[0] * 1000000] * 1000000 }}",
      "{{ 'a\nb' | indent(10**10) }}",
      "{{ 'a' | center(10**10) }}{{ 'a'.ljust(10**12) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '{:1000000000}'.format(1) }}",
      "{{ {'a': {'b': 1}} | tojson(indent=10**9) }}",
      "{{ 'x'.zfill(10**10) }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "{% macro m() %}{{ caller() }}{% endmacro %}{% macro r() %}{% call m() %}{{ r() }}{% endcall "
      "%}{% endmacro %}{{ r() }}",
      "{% set x = [[]] %}{% for i in x recursive %}{{ loop(x) }}{% endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s='aa') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a', "
      "ns.s) %}{% endfor %}",
      "{% set ns = namespace(s='aa') %}{% for i in range(100) %}{% set ns.s = ns.s | list | "
      "join(ns.s) %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor "
      "%}",
      "{% set ns = namespace(l={}) %}{% for i in range(100000) %}{% set ns.l = {'a': ns.l} %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[].index) %}{% for i in range(100000) %}{% set ns.l = [ns.l].index "
      "%}{% endfor %}",
      "{% set ns = namespace(c=cycler(1)) %}{% for i in range(100000) %}{% set ns.c = cycler(ns.c) "
      "%}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}{{ ns.l | tojson }}",
      "{% set a = namespace(l=[1]) %}{% set b = namespace(l=[1]) %}{% for i in range(60) %}{% set "
      "a.l = [a.l, a.l] %}"
      "{% set b.l = [b.l, b.l] %}{% endfor %}{{ a.l == b.l }}",
      "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
      "{% set big = 'x' * 4000000 %}{% for i in range(100000) %}{% set y = big.upper() %}{% endfor "
      "%}",
      "{% set big = '한' * 1000000 %}{% for i in range(100000) %}{% set y = big[i] %}{% endfor %}",
      "{% set big = ('x' * 1000000) | list %}{% for i in range(100000) %}{% set y = big | sort "
      "%}{% endfor %}",
      "{% set big = range(100000) | list %}{{ big | unique | list | length }}",
      "{% for c in 'x' * 4000000 %}{% for d in 'x' * 4000000 %}{% endfor %}{% endfor %}",
      "{{ 2 ** 1000000 }}{{ 10 ** 10 ** 10 }}",
      "{{ raise_exception('x' * 1000000) }}",
      "{{ strftime_now('%1000000000d') }}",
      "{{ " + Repeat("(", 10000) + "1" + Repeat(")", 10000) + " }}",
      "{{ " + Repeat("[", 10000) + Repeat("]", 10000) + " }}",
      "{{ " + Repeat("{1:", 10000) + "1" + Repeat("}", 10000) + " }}",
      "{{ " + Repeat("not ", 10000) + "1 }}",
      "{{ " + Repeat("-", 10000) + "1 }}",
      "{{ " + Repeat("a[", 10000) + "1" + Repeat("]", 10000) + " }}",
      "{{ " + Repeat("f(", 10000) + Repeat(")", 10000) + " }}",
      "{{ " + Repeat("1 if 1 else ", 10000) + "1 }}",
      "{{ 1" + Repeat(" if 1", 10000) + " }}",
      "{{ 1 is in (" + Repeat("1 is in (", 10000) + " }}",
      Repeat("{% if 1 %}", 10000) + Repeat("{% endif %}", 10000),
      Repeat("{% for x in [1] %}", 10000) + Repeat("{% endfor %}", 10000),
      Repeat("{% macro m() %}", 10000) + Repeat("{% endmacro %}", 10000),
      "{% set " + Repeat("(", 10000) + "a" + Repeat(")", 10000) + " = 1 %}",
      std::string(2 << 20, 'x'),
      "\xff\xfe",
  };
  for (const std::string& source : sources) {
    INFO(source.substr(0, 120));
    const auto result = Render(source);  // the program's time limit catches what does not stop
    CHECK(!result.ok());
    if (!result.ok()) CHECK(result.status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("long chains are not deep") {
  CHECK(Render("{{ 1" + Repeat(" + 1", 20000) + " }}").value() == "20001");
  CHECK(Render("{{ 'a'" + Repeat(" ~ 'b'", 2000) + " }}").value().size() == 2001);
  CHECK(Render("{{ 'a'" + Repeat(" | upper", 5000) + " }}").value() == "A");
  CHECK(Render("{{ 'a'" + Repeat("[0]", 5000) + " }}").value() == "a");
  CHECK(Render("{{ 0" + Repeat(" or 0", 20000) + " }}").value() == "0");
  CHECK(Render("{% if 0 %}" + Repeat("{% elif 0 %}", 5000) + "{% else %}x{% endif %}").value() ==
        "x");
  CHECK(Render(Repeat("{% if 1 %}", 60) + "x" + Repeat("{% endif %}", 60)).value() == "x");
}

TEST_CASE("rings and chains of namespaces, macros and loops are taken apart") {
  CHECK(Render("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.l = [ns] %}ok").value() ==
        "ok");
  CHECK(Render("{% set ns = namespace(p=none) %}{% for i in range(5000) %}{% set n = "
               "namespace(p=ns.p) %}{% set ns.p = n %}"
               "{% endfor %}ok")
            .value() == "ok");
  CHECK(Render("{% set ns = namespace(f=none) %}{% for i in range(5000) %}{% set p = ns.f %}{% "
               "macro m() %}{{ p }}"
               "{% endmacro %}{% set ns.f = m %}{% endfor %}ok")
            .value() == "ok");
  CHECK(Render("{% set ns = namespace(l=none) %}{% for i in range(5000) %}{% set p = ns.l %}{% for "
               "j in [ns.l] %}"
               "{% set ns.l = loop %}{% endfor %}{% endfor %}ok")
            .value() == "ok");
}

TEST_CASE("deep and strange variables are errors, not crashes") {
  Json deep = 1;
  for (int i = 0; i < 5000; ++i) deep = Json::array({std::move(deep)});
  Json variables;
  variables["x"] = std::move(deep);
  CHECK(!Render("{{ x }}", variables).ok());
  CHECK(Render("{{ y is defined }}", variables).value() ==
        "False");  // what is not named is not read
  CHECK(Render("{{ x | length }}{{ x[1] }}{{ x[::-1] | length }}", {{"x", "a\xff\xfe"}}).ok());
  CHECK(Render("{{ x is defined }}", Json::array()).value() == "False");
}

TEST_CASE("nothing outside the variables is reachable") {
  for (const char* name : {"__class__", "__init__", "__globals__", "__mro__", "__subclasses__",
                           "func_globals", "gi_frame"}) {
    for (const char* object :
         {"''", "[]", "{}", "1", "range", "namespace()", "cycler(1)", "joiner()", "x"}) {
      const auto result = Render(
          "{{ " + std::string(object) + "." + name + " }}{{ " + object + "['" + name + "'] }}",
          {{"x", {{"a", 1}}}});
      INFO(object << "." << name);
      CHECK((!result.ok() || result->empty()));
    }
  }
  for (const char* name : {"os", "sys", "open", "eval", "exec", "import", "environ", "self",
                           "config", "request", "loop"}) {
    CHECK(Render("{{ " + std::string(name) + " is defined }}").value() == "False");
  }
}

TEST_CASE("a small budget is kept") {
  CHECK(
      !Render("{% for i in range(1000) %}x{% endfor %}", Json::object(), {.max_steps = 500}).ok());
  CHECK(Render("{% for i in range(1000) %}x{% endfor %}", Json::object(), {.max_steps = 20000})
            ->size() == 1000);
  CHECK(!Render("{{ 'x' * 101 }}", Json::object(), {.max_output_bytes = 100}).ok());
  CHECK(Render("{{ 'x' * 100 }}", Json::object(), {.max_output_bytes = 100})->size() == 100);
  CHECK(!Render("{{ ((((1)))) }}", Json::object(), {.max_depth = 3}).ok());
}

TEST_CASE("errors say the line, and raise_exception its own words") {
  CHECK(Render("a\n\n{{ missing.x }}").status().message() ==
        "template line 3: 'missing' is undefined");
  CHECK(Render("{{ raise_exception('Only user roles!') }}").status().message() ==
        "Only user roles!");
  CHECK(Render("\n{% if x %}").status().message() ==
        "template line 2: expected {% elif %}, reached the end");
}

TEST_CASE("one template renders on several threads at once") {
  const auto parsed = ChatTemplate::Parse(
                          "{% for i in range(200) %}{{ 'const' ~ [1, 'a', {'k': i}] }}{{ x.y | "
                          "upper }}{% endfor %}")
                          .value();
  const std::string expected = parsed->Render({{"x", {{"y", "z"}}}}, 0).value();
  std::vector<std::thread> threads;
  std::atomic<int> same = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i)
        same += *parsed->Render({{"x", {{"y", "z"}}}}, 0) == expected ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(same == 40);
}
