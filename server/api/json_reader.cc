#include "server/api/json_reader.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace modu::api {
namespace {

using Object = Json::object_t;
using Array = Json::array_t;

// Fields whose own cap is far below the body's: it is named, and met, before the rest is read.
struct ListCap {
  std::string_view field;
  int32_t Limits::* limit;
  const char* noun;
};
constexpr ListCap kListCaps[] = {
    {"messages", &Limits::max_messages, "items"},
    {"tools", &Limits::max_tools, "items"},
    {"stop", &Limits::max_stop_strings, "strings"},
    {"stop_token_ids", &Limits::max_stop_token_ids, "items"},
    {"logit_bias", &Limits::max_logit_bias, "keys"},
};

// Builds the document and stops at the first bound that is passed. Members are appended without the
// linear search of ordered_json's own insertion: duplicates are found with a hash set per open
// object, so that 10,000 keys stay linear.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const Limits& limits) : limits_(limits) {}

  bool null() override { return Value(Json()); }
  bool boolean(bool value) override { return Value(Json(value)); }
  bool number_integer(number_integer_t value) override { return Value(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Value(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override {
    if (!std::isfinite(value)) return Refuse(field_, "number out of range");
    return Value(Json(value));
  }
  bool string(string_t& value) override { return Value(Json(std::move(value))); }
  bool binary(binary_t&) override { return Refuse("", "binary values are not JSON"); }

  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    if (open_.size() == 1 && open_.front().node->is_object()) EnterField(name);
    if (!CountEntry()) return false;
    if (++keys_ > limits_.max_json_keys) {
      return Refuse(field_, "more than " + std::to_string(limits_.max_json_keys) +
                                " object keys in one body");
    }
    Frame& frame = open_.back();
    if (!frame.seen.insert(name).second) {
      return Refuse(field_,
                    open_.size() == 1 ? "duplicate key" : "duplicate key inside this field");
    }
    frame.key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // 406: a number that no double holds. Everything else is syntax.
    if (error.id == 406) return Refuse(field_, "number out of range");
    const std::size_t offset = position > 0 ? position - 1 : 0;
    return Refuse("", "invalid JSON at byte offset " + std::to_string(offset) + Reason(error));
  }

  Json& root() { return root_; }
  const ApiError& error() const { return error_; }

 private:
  struct Frame {
    Json* node;
    std::string key;
    std::unordered_set<std::string> seen;
  };

  // The library quotes the client's bytes in its messages; only the kind of mistake is passed on.
  static std::string Reason(const nlohmann::json::exception& error) {
    const std::string_view what = error.what();
    if (what.find("UTF-8") != what.npos) return ": invalid UTF-8";
    if (what.find("surrogate") != what.npos) return ": lone surrogate";
    if (what.find("unexpected end of input") != what.npos) return ": unexpected end";
    if (what.find("expected end of input") != what.npos) return ": bytes after the object";
    return "";
  }

  bool Refuse(std::string param, std::string message) {
    if (!param.empty()) message = param.substr(0, 64) + ": " + message;
    error_ = InvalidField(param.substr(0, 64), std::move(message));
    return false;
  }

  void EnterField(const std::string& name) {
    field_ = name;
    entries_ = 0;
    cap_ = nullptr;
    for (const ListCap& cap : kListCaps) {
      if (cap.field == name) cap_ = &cap;
    }
  }

  // Of the top-level field's own array or object, against the field's own cap.
  bool CountEntry() {
    if (cap_ == nullptr || open_.size() != 2 || ++entries_ <= limits_.*cap_->limit) return true;
    error_ = InvalidField(field_, field_ + " must have at most " +
                                      std::to_string(limits_.*cap_->limit) + " " + cap_->noun);
    return false;
  }

  // Puts the value where it belongs and returns its place, or null past a bound. The root may be
  // anything here: an array that nests too deep is told so, and every other one when it is whole.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Frame& frame = open_.back();
    if (frame.node->is_array()) {
      if (!CountEntry()) return nullptr;
      if (++items_ > limits_.max_json_items) {
        Refuse(field_,
               "more than " + std::to_string(limits_.max_json_items) + " array items in one body");
        return nullptr;
      }
      auto& array = frame.node->get_ref<Array&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    auto& members = static_cast<Object::Container&>(frame.node->get_ref<Object&>());
    members.emplace_back(std::move(frame.key), std::move(value));
    return &members.back().second;
  }

  bool Value(Json value) { return Place(std::move(value)) != nullptr; }

  bool Open(Json value) {
    if (open_.size() >= static_cast<std::size_t>(limits_.max_json_depth)) {
      return Refuse(field_, "nesting deeper than " + std::to_string(limits_.max_json_depth));
    }
    Json* node = Place(std::move(value));
    if (node == nullptr) return false;
    // Addresses stay valid: a container is appended to only while it is the innermost open one.
    open_.push_back(Frame{node, {}, {}});
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const Limits& limits_;
  Json root_;
  std::vector<Frame> open_;
  std::string field_;             // the top-level member being read
  const ListCap* cap_ = nullptr;  // of that member, if it has one
  int64_t keys_ = 0, items_ = 0, entries_ = 0;
  ApiError error_;
};

}  // namespace

Parsed<Json> ReadJsonObject(std::string_view body, const Limits& limits) {
  // The library would skip a byte order mark.
  if (body.substr(0, 3) == "\xEF\xBB\xBF")
    return InvalidField("", "invalid JSON at byte offset 0: byte order mark");
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  if (std::all_of(body.begin(), body.end(), is_space))
    return InvalidField("", "body must be a JSON object");
  // The library takes a NUL for the end of its input; JSON has none outside an escape.
  if (const size_t nul = body.find('\0'); nul != std::string_view::npos) {
    return InvalidField("", "invalid JSON at byte offset " + std::to_string(nul) + ": a NUL byte");
  }
  Builder builder(limits);
  if (!Json::sax_parse(body.begin(), body.end(), &builder)) return builder.error();
  if (!builder.root().is_object()) return InvalidField("", "body must be a JSON object");
  return std::move(builder.root());
}

}  // namespace modu::api
