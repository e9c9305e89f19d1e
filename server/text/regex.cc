#include "server/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace modu::text {
namespace {

// Far above what any real expression needs at one place; a catastrophic one stops in well under a
// second.
constexpr uint32_t kMatchLimit = 5'000'000;
constexpr uint32_t kHeapLimitKib = 256 << 10;
constexpr size_t kJitStackStart = 64 << 10;
constexpr size_t kJitStackMax = 64 << 20;
// A match limit bounds one match, not their sum over a text: 2 s and 1 s a megabyte.
constexpr auto kBaseTime = std::chrono::seconds(2);
constexpr auto kTimePerByte = std::chrono::microseconds(1);

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};

std::string Message(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Impl {
  std::unique_ptr<pcre2_code, FreeCode> code;
  bool jit = false;
};

Regex::Regex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<Regex>> Regex::Compile(std::string_view pattern) {
  absl::StatusOr<std::string> translated = OnigurumaToPcre2(pattern);
  if (!translated.ok()) return translated.status();
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto impl = std::make_unique<Impl>();
  // Oniguruma's Ruby syntax: ^ and $ are at lines.
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()),
                                 translated->size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                 &error, &offset, nullptr));
  if (impl->code == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("regex: ", Message(error)));
  impl->jit = pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  return std::unique_ptr<Regex>(new Regex(std::move(impl)));
}

absl::Status Regex::FindAll(std::string_view text, std::vector<Span>* matches) const {
  const std::unique_ptr<pcre2_match_data, FreeData> data(
      pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  MODU_CHECK(data != nullptr && context != nullptr);
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;
  if (impl_->jit) {
    stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
    if (stack != nullptr) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + kBaseTime + kTimePerByte * text.size();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
  size_t pos = 0, last_end = static_cast<size_t>(-1);
  uint32_t rounds = 0;
  while (pos <= text.size()) {
    if ((++rounds & 63) == 0 && Clock::now() > deadline) {
      return absl::InvalidArgumentError("the tokenizer's regex takes too long on this text");
    }
    int rc = pcre2_match(impl_->code.get(), subject, text.size(), pos, PCRE2_NO_UTF_CHECK,
                         data.get(), context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(impl_->code.get(), subject, text.size(), pos,
                       PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), context.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the tokenizer's regex: ", Message(rc)));
    }
    const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(data.get());
    const size_t begin = ovector[0], end = ovector[1];
    if (begin < end) {
      matches->push_back({begin, end});
      pos = last_end = end;
      continue;
    }
    if (end < begin)
      return absl::InvalidArgumentError("the tokenizer's regex: \\K in a lookaround");
    if (end != last_end) matches->push_back({begin, end});
    last_end = end;
    if (end == text.size()) break;
    int length = 1;
    DecodeValid(text.data() + end, &length);
    pos = end + length;
  }
  return absl::OkStatus();
}

}  // namespace modu::text
