// str() and repr().
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {

void Runtime::ReprTo(const Value& value, std::string* out) {
  if (!Charge(1)) return;
  if (static_cast<int64_t>(out->size()) > budget_.max_output_bytes) {
    FitsString(1, static_cast<int64_t>(out->size()));
    return;
  }
  switch (value.kind()) {
    case Kind::kUndefined:
      out->append("Undefined");
      return;
    case Kind::kNone:
      out->append("None");
      return;
    case Kind::kBool:
      out->append(value.as_bool() ? "True" : "False");
      return;
    case Kind::kInt:
      out->append(IntToString(value.as_int()));
      return;
    case Kind::kFloat:
      out->append(FloatToString(value.as_double()));
      return;
    case Kind::kString: {
      const std::string& text = value.text();
      ChargeBytes(static_cast<int64_t>(text.size()));
      const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
      const char quote = doubled ? '"' : '\'';
      if (value.markup()) out->append("Markup(");
      out->push_back(quote);
      for (size_t i = 0; i < text.size();) {
        size_t n = 0;
        const char32_t c = DecodeChar(text, i, &n);
        if (c == static_cast<char32_t>(quote) || c == U'\\') {
          out->push_back('\\');
          out->push_back(static_cast<char>(c));
        } else if (c == U'\n' || c == U'\r' || c == U'\t') {
          out->append(c == U'\n' ? "\\n" : c == U'\r' ? "\\r" : "\\t");
        } else if (IsPrintable(c)) {
          out->append(text, i, n);
        } else {
          const std::string hex = IntToString(static_cast<Int>(c), 16);
          const size_t width = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
          absl::StrAppend(out,
                          c < 0x100     ? "\\x"
                          : c < 0x10000 ? "\\u"
                                        : "\\U",
                          std::string(width - hex.size(), '0'), hex);
        }
        i += n;
      }
      out->push_back(quote);
      if (value.markup()) out->push_back(')');
      return;
    }
    case Kind::kSequence: {
      const SequenceObject& seq = value.seq();
      if (seq.flavor == Flavor::kGenerator) {
        out->append("<generator object>");
        return;
      }
      if (seq.flavor == Flavor::kRange) {
        // range(start, stop) with the step only where it is not 1, from the items that are left of
        // it.
        const Int first = seq.items.empty() ? 0 : seq.items.front().as_int();
        const Int step = seq.items.size() < 2 ? 1 : seq.items[1].as_int() - first;
        const Int stop = seq.items.empty() ? 0 : seq.items.back().as_int() + (step > 0 ? 1 : -1);
        absl::StrAppend(out, "range(", IntToString(first), ", ", IntToString(stop));
        if (step != 1) absl::StrAppend(out, ", ", IntToString(step));
        out->push_back(')');
        return;
      }
      const bool tuple = seq.flavor == Flavor::kTuple;
      const bool view = seq.flavor > Flavor::kTuple;
      if (view) absl::StrAppend(out, TypeName(value), "(");
      out->push_back(tuple ? '(' : '[');
      for (size_t i = 0; i < seq.items.size() && !failed(); ++i) {
        if (i > 0) out->append(", ");
        ReprTo(seq.items[i], out);
      }
      if (tuple && seq.items.size() == 1) out->push_back(',');
      out->push_back(tuple ? ')' : ']');
      if (view) out->push_back(')');
      return;
    }
    case Kind::kDict: {
      out->push_back('{');
      bool first = true;
      for (const auto& [key, item] : value.map().items) {
        if (failed()) return;
        if (!std::exchange(first, false)) out->append(", ");
        ReprTo(key, out);
        out->append(": ");
        ReprTo(item, out);
      }
      out->push_back('}');
      return;
    }
    case Kind::kNamespace:
      out->append("<Namespace>");
      return;
    case Kind::kFunction:
      absl::StrAppend(out, "<", TypeName(value), " '", value.function().name, "'>");
      return;
    case Kind::kLoop:
      absl::StrAppend(out, "<LoopContext ", value.loop().index + 1, "/", value.loop().items.size(),
                      ">");
      return;
    case Kind::kCycler:
      out->append("<Cycler>");
      return;
    case Kind::kJoiner:
      out->append("<Joiner>");
      return;
  }
}

std::string Runtime::Repr(const Value& value) {
  std::string out;
  ReprTo(value, &out);
  return out;
}

std::string Runtime::Str(const Value& value) {
  if (value.string()) return value.text();
  if (value.undefined()) return "";
  return Repr(value);
}

}  // namespace modu::text::jinja
