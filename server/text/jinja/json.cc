#include "server/text/jinja/json.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/text/jinja/number.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

class Writer {
 public:
  Writer(Runtime* runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void Write(const Value& value, int level) {
    if (!runtime_->Charge(1) || !Fits()) return;
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBool:
        out_ += value.as_bool() ? "true" : "false";
        return;
      case Kind::kInt:
        out_ += IntToString(value.as_int());
        return;
      case Kind::kFloat:
        out_ += FloatText(value.as_double());
        return;
      case Kind::kString:
        Text(value.text());
        return;
      case Kind::kSequence:
        if (value.seq().flavor > Flavor::kTuple) break;
        Array(value.seq(), level);
        return;
      case Kind::kDict:
        Dict(value.map(), level);
        return;
      default:
        break;
    }
    runtime_->Fail(absl::StrCat("tojson: a ", runtime_->TypeName(value), " has no JSON"));
  }

  std::string Take() { return std::move(out_); }

 private:
  bool Fits() {
    return static_cast<int64_t>(out_.size()) <= runtime_->budget().max_output_bytes ||
           runtime_->FitsString(1, static_cast<int64_t>(out_.size()));
  }

  static std::string FloatText(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatToString(value);
  }

  void Text(const std::string& text) {
    runtime_->ChargeBytes(static_cast<int64_t>(text.size()));
    out_.push_back('"');
    for (size_t i = 0; i < text.size();) {
      size_t n = 0;
      const char32_t c = DecodeChar(text, i, &n);
      switch (c) {
        case U'"':
          out_ += "\\\"";
          break;
        case U'\\':
          out_ += "\\\\";
          break;
        case U'\n':
          out_ += "\\n";
          break;
        case U'\r':
          out_ += "\\r";
          break;
        case U'\t':
          out_ += "\\t";
          break;
        case U'\f':
          out_ += "\\f";
          break;
        case U'\b':
          out_ += "\\b";
          break;
        default:
          if (c < 0x20 || (style_.ensure_ascii && c > 0x7E)) {
            if (c >= 0x10000) {
              Escape(0xD800 + ((static_cast<uint32_t>(c) - 0x10000) >> 10));
              Escape(0xDC00 + ((static_cast<uint32_t>(c) - 0x10000) & 0x3FF));
            } else {
              Escape(static_cast<uint32_t>(c));
            }
          } else {
            out_.append(text, i, n);
          }
      }
      i += n;
    }
    out_.push_back('"');
  }

  void Escape(uint32_t unit) {
    const std::string hex = IntToString(unit, 16);
    absl::StrAppend(&out_, "\\u", std::string(4 - hex.size(), '0'), hex);
  }

  void Line(int level) {
    if (!style_.indent) return;
    if (!runtime_->FitsString(level, static_cast<int64_t>(style_.indent->size()))) return;
    out_.push_back('\n');
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void Array(const SequenceObject& seq, int level) {
    if (seq.items.empty()) {
      out_ += "[]";
      return;
    }
    out_.push_back('[');
    for (size_t i = 0; i < seq.items.size() && !runtime_->failed(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      Line(level + 1);
      Write(seq.items[i], level + 1);
    }
    Line(level);
    out_.push_back(']');
  }

  void Dict(const DictObject& dict, int level) {
    if (dict.items.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.items) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return runtime_->Less(a->first, b->first);
      });
    }
    out_.push_back('{');
    bool first = true;
    for (const auto* entry : entries) {
      if (runtime_->failed()) return;
      if (!first) out_ += style_.item_separator;
      first = false;
      Line(level + 1);
      Key(entry->first);
      out_ += style_.key_separator;
      Write(entry->second, level + 1);
    }
    Line(level);
    out_.push_back('}');
  }

  void Key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        Text(key.text());
        return;
      case Kind::kNone:
        out_ += "\"null\"";
        return;
      case Kind::kBool:
        out_ += key.as_bool() ? "\"true\"" : "\"false\"";
        return;
      case Kind::kInt:
        absl::StrAppend(&out_, "\"", IntToString(key.as_int()), "\"");
        return;
      case Kind::kFloat:
        absl::StrAppend(&out_, "\"", FloatText(key.as_double()), "\"");
        return;
      default:
        runtime_->Fail(absl::StrCat("tojson: a key cannot be a ", runtime_->TypeName(key)));
    }
  }

  Runtime* runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

std::string ToJson(Runtime* runtime, const Value& value, const JsonStyle& style) {
  Writer writer(runtime, style);
  writer.Write(value, 0);
  return writer.Take();
}

Value FromJson(Runtime* runtime, const nlohmann::ordered_json& json, int depth) {
  if (depth > runtime->budget().max_depth) {
    return runtime->Fail(absl::StrCat("a variable is nested deeper than the limit of ",
                                      runtime->budget().max_depth));
  }
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return Value::Bool(json.get<bool>());
    case Type::number_integer:
      return Value::Integer(json.get<int64_t>());
    case Type::number_unsigned:
      return Value::Integer(static_cast<Int>(json.get<uint64_t>()));
    case Type::number_float:
      return Value::Float(json.get<double>());
    case Type::string:
      return Value::String(json.get_ref<const std::string&>());
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(FromJson(runtime, item, depth + 1));
      return Value::List(std::move(items));
    }
    case Type::object: {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(json.size());
      for (auto it = json.begin(); it != json.end(); ++it) {
        items.emplace_back(Value::String(it.key()), FromJson(runtime, it.value(), depth + 1));
      }
      return Value::Of(Kind::kDict, std::make_shared<DictObject>(std::move(items)));
    }
    default:
      return Value::None();
  }
}

}  // namespace modu::text::jinja
