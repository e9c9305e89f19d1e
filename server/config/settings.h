// The table of settings: one row per flag and YAML key, with its group, bounds and the field it
// fills. --help, the YAML reader, the command line and the list printed at start are all read off
// this table.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "server/config/config.h"

namespace modu::config {

using IntField = int Config::*;
using Int64Field = int64_t Config::*;
using BoolField = bool Config::*;
using StringField = std::string Config::*;
using ListField = std::vector<std::string> Config::*;
using LimitField = int32_t api::Limits::*;
using Limit64Field = int64_t api::Limits::*;

struct SettingRow {
  const char* name;  // flag without dashes, YAML key
  const char* group;
  const char* help;
  std::variant<IntField, Int64Field, BoolField, StringField, ListField, LimitField, Limit64Field>
      field;
  int64_t minimum = 0, maximum = 0;       // of numbers; durations in the unit the field's name says
  std::vector<std::string> choices = {};  // of strings; empty: anything
  bool seconds_to_ms = false;             // written in seconds, kept in milliseconds
};

std::span<const SettingRow> Settings();

/// Text as the row's type; error names the setting and its bounds.
absl::Status Assign(const SettingRow& row, const std::string& text, Config& config);
/// The value as text, as Assign would take it.
std::string Show(const SettingRow& row, const Config& config);

}  // namespace modu::config
