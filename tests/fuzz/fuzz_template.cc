// Chat templates: the bytes are a template, rendered over a small conversation under small budgets.
#include "kernels/check.h"
#include "nlohmann/json.hpp"
#include "server/text/chat_template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* variables = new nlohmann::ordered_json(nlohmann::ordered_json::parse(
      R"({"messages":[{"role":"system","content":"a한😀"},{"role":"user","content":[{"type":"text","text":"x"}]}],
          "tools":[{"function":{"name":"f","parameters":{"a":[1,2.5,null,true]}}}],"add_generation_prompt":true})"));
  modu::text::TemplateBudget budget;
  budget.max_steps = 20'000;
  budget.max_output_bytes = 1 << 16;
  const auto parsed =
      modu::text::ChatTemplate::Parse({reinterpret_cast<const char*>(data), size}, budget);
  if (!parsed.ok()) {
    MODU_CHECK(!parsed.status().message().empty());
    return 0;
  }
  const auto once = (*parsed)->Render(*variables, 0);
  const auto again = (*parsed)->Render(*variables, 0);
  // A render leaves nothing behind in the template.
  MODU_CHECK(once.ok() == again.ok());
  if (once.ok()) {
    MODU_CHECK(*once == *again);
    MODU_CHECK(static_cast<int64_t>(once->size()) <= budget.max_output_bytes);
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {
      "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' + m['content'] | string | trim }}{% if "
      "loop.last %}.{% endif %}{% endfor %}",
      "{%- macro f(x, y=1, *a) -%}{{ x }}{%- endmacro -%}{{ f(1) }}",
      "{%- macro f(x, y=1) -%}{{ caller(x) ~ varargs ~ kwargs }}{%- endmacro -%}{% call(z) f(1, 2, "
      "3, k=4) %}{{ z }}{% endcall %}",
      "{% set ns = namespace(a=[1,2,3]) %}{% set ns.a = ns.a[::-1] + [4] %}{{ ns.a | "
      "sort(reverse=true) | map('string') | join(',') }}",
      "{{ tools | tojson(indent=2) }}{{ messages | selectattr('role', 'equalto', 'user') | list | "
      "length }}",
      "{{ 'a한😀z'[1:3] ~ 'a,b'.split(',') ~ '%5d|%s' % (1, 'x') ~ '{:>4}{}'.format(1, 2) }}",
      "{% raw %}{{ x }}{% endraw %}{# c #}{% set x %}{{ 1 if 2 else 3 }}{% endset %}{% filter "
      "upper %}{{ x }}{% endfilter %}",
      "{% for x in [[1,[2]],3] recursive %}{{ loop(x) if x is iterable else x ** 2 // 3 % 5 }}{% "
      "else %}{% endfor %}",
      "{% with a = 1, b = {'k': (1, none)} %}{{ b.k[0] <= a < 3 and not a is in [2] }}{% endwith "
      "%}{{ strftime_now('%Y') }}",
      "{{ [1,2,3,4] | batch(2, 0) | list }}{{ tools | groupby('function.name') }}{{ {'b':1,'a':2} "
      "| dictsort }}{{ 'x' | indent(2, true) }}",
  };
}
