// Splits a byte stream into Server-Sent Events (WHATWG HTML, section 9.2): data lines of one event
// are joined by \n, comments and other fields are skipped. Bytes may come cut anywhere.
#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace modu::client {

class SseParser {
 public:
  explicit SseParser(std::function<void(std::string_view data)> on_event)
      : on_event_(std::move(on_event)) {}

  void Push(std::string_view bytes) {
    for (size_t start = 0; start < bytes.size();) {
      const size_t end = bytes.find('\n', start);
      if (end == std::string_view::npos) {
        line_.append(bytes.substr(start));
        return;
      }
      line_.append(bytes.substr(start, end - start));
      TakeLine();
      start = end + 1;
    }
  }

 private:
  void TakeLine() {
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    if (line_.empty()) {
      if (has_data_) on_event_(data_);
      data_.clear();
      has_data_ = false;
    } else if (line_.rfind("data:", 0) == 0) {
      if (has_data_) data_ += '\n';
      const size_t value = line_.size() > 5 && line_[5] == ' ' ? 6 : 5;
      data_.append(line_, value, std::string::npos);
      has_data_ = true;
    }
    line_.clear();
  }

  std::function<void(std::string_view)> on_event_;
  std::string line_, data_;
  bool has_data_ = false;
};

}  // namespace modu::client
