#include "engine/request/validate.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

namespace modu::engine {
namespace {

bool InRange(float x, float lo, float hi) { return x >= lo && x <= hi; }  // false for NaN

absl::Status TokenIdError(const char* field, int32_t id, int32_t vocab) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": token id ", id, " not in 0..", vocab - 1));
}

absl::Status ValidateSampling(const SamplingParams& p, int32_t vocab) {
  const auto bad = [](const char* what) { return absl::InvalidArgumentError(what); };
  if (!InRange(p.temperature, 0, 2)) return bad("temperature must be in [0, 2]");
  if (p.top_k < 0) return bad("top_k must be at least 0");
  if (!(p.top_p > 0 && p.top_p <= 1)) return bad("top_p must be in (0, 1]");
  if (!InRange(p.min_p, 0, 1)) return bad("min_p must be in [0, 1]");
  if (!(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty))) {
    return bad("repetition_penalty must be above 0");
  }
  if (!InRange(p.presence_penalty, -2, 2)) return bad("presence_penalty must be in [-2, 2]");
  if (!InRange(p.frequency_penalty, -2, 2)) return bad("frequency_penalty must be in [-2, 2]");
  for (const auto& [id, bias] : p.logit_bias) {
    if (id < 0 || id >= vocab) return TokenIdError("logit_bias", id, vocab);
    if (!InRange(bias, -100, 100)) return bad("logit_bias values must be in [-100, 100]");
  }
  for (int32_t id : p.stop_token_ids) {
    if (id < 0 || id >= vocab) return TokenIdError("stop_token_ids", id, vocab);
  }
  if (p.max_tokens < 0) return bad("max_tokens must be at least 0");
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens)
    return bad("min_tokens must be in [0, max_tokens]");
  if (p.top_logprobs < -1 || p.top_logprobs > vocab)
    return bad("top_logprobs must be at most the vocabulary's size");
  if (p.prompt_logprobs < -1 || p.prompt_logprobs > vocab) {
    return bad("prompt_logprobs must be at most the vocabulary's size");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRequest(const Request& request, const RunnerSpec& spec,
                             int32_t max_kv_tokens) {
  if (absl::Status status = ValidateSampling(request.sampling, spec.vocab_size); !status.ok())
    return status;
  if (request.prompt_ids.empty())
    return absl::InvalidArgumentError("prompt must hold at least one token");
  for (int32_t id : request.prompt_ids) {
    if (id < 0 || id >= spec.vocab_size) return TokenIdError("prompt", id, spec.vocab_size);
  }
  const int64_t prompt = static_cast<int64_t>(request.prompt_ids.size());
  const int64_t total = prompt + request.sampling.max_tokens;
  if (total > spec.max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrCat(prompt > spec.max_model_len ? "prompt" : "max_tokens", ": ", prompt,
                     " prompt tokens and ", request.sampling.max_tokens,
                     " max_tokens exceed the context length of ", spec.max_model_len, " tokens"));
  }
  // The last output token is never fed back, so it needs no KV.
  if (total - (request.sampling.max_tokens > 0 ? 1 : 0) > max_kv_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(prompt > max_kv_tokens ? "prompt" : "max_tokens", ": ", prompt,
                     " prompt tokens and ", request.sampling.max_tokens,
                     " max_tokens exceed the KV cache of ", max_kv_tokens, " tokens"));
  }
  return absl::OkStatus();
}

}  // namespace modu::engine
