#include "tests/engine/fake_runner.h"

#include <algorithm>
#include <span>
#include <stdexcept>

namespace modu::engine {
namespace {

constexpr int32_t kGarbage = -777;
/// What the KV of a token that was computed as a generated one holds, where phases differ.
constexpr int32_t kGenerated = 1 << 30;

uint64_t Fold(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
  return hash ^ (hash >> 29);
}

uint64_t HashTokens(uint64_t hash, std::span<const int32_t> tokens) {
  for (int32_t token : tokens) hash = Fold(hash, static_cast<uint32_t>(token));
  return hash;
}

/// Each group sees its own window of the tokens; a full group sees all.
uint64_t HashSeen(const RunnerSpec& spec, std::span<const int32_t> tokens) {
  uint64_t hash = 1;
  for (const CacheGroupSpec& group : spec.groups) {
    const size_t seen =
        group.window > 0 ? std::min<size_t>(group.window, tokens.size()) : tokens.size();
    hash = HashTokens(hash, tokens.last(seen));
  }
  return hash;
}

bool Stops(const RunnerSpec& spec, const SamplingParams& params, int32_t id) {
  return std::ranges::count(spec.eos_ids, id) + std::ranges::count(params.stop_token_ids, id) > 0;
}

int32_t TokenOf(const RunnerSpec& spec, const SamplingParams& params, uint64_t hash,
                int32_t position, bool mask_stop) {
  uint64_t drawn = Fold(Fold(hash, params.seed), position);
  if ((params.seed & FakeRunner::kRepetitive) != 0 && drawn % 8 != 0)
    drawn = Fold(params.seed, static_cast<uint64_t>(position % 5));
  auto token = static_cast<int32_t>(drawn % spec.vocab_size);
  while (mask_stop && Stops(spec, params, token)) token = (token + 1) % spec.vocab_size;
  return token;
}

float LogprobFrom(uint64_t hash, int32_t target) {
  return -static_cast<float>(Fold(hash, static_cast<uint32_t>(target)) % 4096) / 256.0f;
}

}  // namespace

FakeRunner::FakeRunner(RunnerSpec spec, int depth) : spec_(std::move(spec)), depth_(depth) {
  for (const CacheGroupSpec& group : spec_.groups) {
    kv_.emplace_back(static_cast<size_t>(group.num_blocks) * group.block_size, kGarbage);
  }
}

std::vector<int32_t> FakeRunner::Answer(const RunnerSpec& spec, const Request& request) {
  const SamplingParams& params = request.sampling;
  std::vector<int32_t> tokens = request.prompt_ids, output;
  for (int32_t i = 0; i < params.max_tokens; ++i) {
    const int32_t token = TokenOf(spec, params, HashSeen(spec, tokens), i, i < params.min_tokens);
    tokens.push_back(spec.phased ? token | kGenerated : token);
    output.push_back(token);
    const bool eos = !params.ignore_eos && std::ranges::count(spec.eos_ids, token) > 0;
    if (i >= params.min_tokens && (eos || std::ranges::count(params.stop_token_ids, token) > 0))
      break;
  }
  return output;
}

float FakeRunner::LogprobOf(const RunnerSpec& spec, const std::vector<int32_t>& tokens,
                            int32_t target) {
  return LogprobFrom(HashSeen(spec, tokens), target);
}

void FakeRunner::Violate(const std::string& what) {
  if (violations.size() < 20) violations.push_back(what);
}

SamplerSlot FakeRunner::StartSequence(const SamplingParams& params,
                                      const std::vector<int32_t>& history, int32_t num_output) {
  if (faults.start_throws && faults.start_throws()) throw std::bad_alloc();
  if (static_cast<int32_t>(slots_.size()) >= spec_.max_sequences * (depth_ + 1))
    Violate("too many slots");
  Slot& slot = slots_[next_slot_] = {params, history, num_output, false};
  if (spec_.phased) {
    for (int32_t i = 1; i <= num_output; ++i) slot.history[slot.history.size() - i] |= kGenerated;
  }
  return next_slot_++;
}

void FakeRunner::EndSequence(SamplerSlot slot) {
  if (slots_.erase(slot) != 1) Violate("an unknown slot was ended");
  for (const ForwardInput& input : pending_) {
    for (const SampleRow& row : input.sample_rows) {
      if (row.slot == slot) Violate("a slot was ended while a step names it");
    }
  }
}

void FakeRunner::CheckShape(const ForwardInput& input) {
  const size_t t = input.token_ids.size(), s = input.seq_lens.size();
  if (t == 0 || t > static_cast<size_t>(spec_.max_batch_tokens)) Violate("T out of range");
  if (s > static_cast<size_t>(spec_.max_sequences)) Violate("S out of range");
  if (input.least_tokens < 0 ||
      (input.least_tokens > 0 && (s != 1 || depth_ != 1 || input.num_generated_seqs != 0 ||
                                  static_cast<size_t>(input.least_tokens) >= t))) {
    Violate("least_tokens");
  }
  if (input.num_generated_seqs < 0 || input.num_generated_seqs > static_cast<int32_t>(s))
    Violate("num_generated_seqs out of range");
  if (input.positions.size() != t || input.cu_seqlens.size() != s + 1 ||
      input.groups.size() != spec_.groups.size()) {
    Violate("array sizes do not agree");
  }
  if (input.cu_seqlens.front() != 0 || input.cu_seqlens.back() != static_cast<int32_t>(t))
    Violate("cu_seqlens");
  for (size_t i = 0; i < s; ++i) {
    const int32_t begin = input.cu_seqlens[i], end = input.cu_seqlens[i + 1];
    if (begin >= end) Violate("a sequence without rows");
    for (int32_t r = begin; r < end; ++r) {
      if (input.positions[r] != input.seq_lens[i] - (end - r))
        Violate("positions and seq_lens do not agree");
    }
    if (input.seq_lens[i] > spec_.max_model_len) Violate("a sequence beyond max_model_len");
  }
  for (const GroupInput& group : input.groups) {
    if (group.slot_mapping.size() != t ||
        group.block_table.size() != s * group.block_table_stride) {
      Violate("group sizes do not agree");
    }
  }
}

StepHandle FakeRunner::Launch(ForwardInput input) {
  CheckShape(input);
  if (faults.launch_throws && faults.launch_throws(input)) throw std::runtime_error("launch");
  if (static_cast<int>(pending_.size()) >= depth_)
    Violate("more steps in flight than the pipeline holds");
  if (input.step <= last_launched) Violate("steps do not rise");
  last_launched = input.step;
  if (keep_launched) launched.push_back(input);
  pending_.push_back(std::move(input));
  return {last_launched};
}

void FakeRunner::WriteKv(ForwardInput& input, int32_t computed) {
  const auto generated =
      static_cast<size_t>(input.cu_seqlens[static_cast<size_t>(input.num_generated_seqs)]);
  for (size_t t = 0; t < input.token_ids.size(); ++t) {
    int32_t& id = input.token_ids[t];
    if (id < 0) {
      const int32_t row = -1 - id;
      if (row >= static_cast<int32_t>(previous_rows_.size())) {
        Violate("an input id names a row that the step before did not have");
        id = 0;
      } else {
        id = previous_rows_[row].token_id;
      }
    }
    for (size_t g = 0; g < kv_.size(); ++g) {
      const int32_t held = spec_.phased && t < generated ? id | kGenerated : id;
      kv_[g][input.groups[g].slot_mapping[t]] =
          static_cast<int32_t>(t) < computed ? held : kGarbage;
    }
  }
  tokens_computed += static_cast<int64_t>(input.token_ids.size());
}

std::vector<int32_t> FakeRunner::ReadKv(const ForwardInput& input, size_t group, int32_t sequence,
                                        int32_t position) {
  const CacheGroupSpec& spec = spec_.groups[group];
  const GroupInput& in = input.groups[group];
  const int32_t first = spec.window > 0 ? std::max(0, position - spec.window + 1) : 0;
  std::vector<int32_t> tokens;
  tokens.reserve(position - first + 1);
  for (int32_t p = first; p <= position; ++p) {
    const int32_t block = in.block_table[sequence * in.block_table_stride + p / spec.block_size];
    tokens.push_back(
        kv_[group][static_cast<size_t>(block) * spec.block_size + p % spec.block_size]);
  }
  return tokens;
}

SampledRow FakeRunner::Draw(const ForwardInput& input, const SampleRow& row) {
  const auto it = std::ranges::upper_bound(input.cu_seqlens, row.token_row);
  const auto sequence = static_cast<int32_t>(it - input.cu_seqlens.begin()) - 1;
  const int32_t position = input.positions[row.token_row];
  uint64_t hash = 1;
  for (size_t g = 0; g < kv_.size(); ++g) {
    const std::vector<int32_t> seen = ReadKv(input, g, sequence, position);
    hash = HashTokens(hash, seen);
    if (g > 0 || row.target_id >= 0 || spec_.groups[0].window > 0) continue;
    const auto slot = slots_.find(row.slot);
    if (slot == slots_.end()) {
      Violate("a row names an unknown slot");
    } else if (slot->second.sick) {
      continue;
    } else if (slot->second.history != seen) {
      // After a failed step a launched one reads what never was; its answers are thrown away.
      if (std::ranges::count(seen, kGarbage) == 0)
        Violate("the sampler's history is not what the KV holds");
    } else if (slot->second.num_output != row.position) {
      Violate("the output position is not the number of tokens drawn");
    }
  }
  SampledRow out;
  if (faults.row_is_nan && faults.row_is_nan(row)) {
    out.numeric_error = true;
    if (const auto slot = slots_.find(row.slot); slot != slots_.end()) slot->second.sick = true;
    return out;
  }
  if (row.target_id >= 0) {
    out.token_id = row.target_id;
  } else {
    const auto slot = slots_.find(row.slot);
    if (slot == slots_.end()) return out;
    out.token_id = TokenOf(spec_, slot->second.params, hash, row.position, row.mask_stop);
    slot->second.history.push_back(spec_.phased ? out.token_id | kGenerated : out.token_id);
    ++slot->second.num_output;
  }
  if (row.top_logprobs >= 0 || row.target_id >= 0) out.logprob = LogprobFrom(hash, out.token_id);
  for (int32_t k = 0; k < row.top_logprobs; ++k)
    out.top_logprobs.push_back({k, LogprobFrom(hash, k)});
  return out;
}

StepOutput FakeRunner::Wait(StepHandle handle) {
  StepOutput output;
  if (pending_.empty() || pending_.front().step != handle.step) {
    Violate("steps are not waited for in the order of their launch");
    output.status = absl::InternalError("fake");
    return output;
  }
  ForwardInput input = std::move(pending_.front());
  pending_.pop_front();
  last_waited = input.step;
  if (faults.during_step) faults.during_step(input);
  const bool fails = faults.step_fails && faults.step_fails(input);
  const auto all = static_cast<int32_t>(input.token_ids.size());
  int32_t computed = fails ? 0 : all;
  if (!fails && input.least_tokens > 0 && faults.ends_early) {
    computed = std::clamp(faults.ends_early(input), 1, all);
  }
  WriteKv(input, computed);
  if (!fails && computed < all) {
    output.num_tokens = computed;
  } else if (fails) {
    output.status = absl::InternalError("injected step failure");
    output.rows.resize(input.sample_rows.size());
  } else {
    for (const SampleRow& row : input.sample_rows) {
      if (row.after_draft && output.rows.empty()) Violate("a guess is checked by no row before it");
      const bool drawn =
          !row.after_draft ||
          (!output.rows.empty() &&
           output.rows.back().token_id == input.token_ids[static_cast<size_t>(row.token_row)]);
      output.rows.push_back(drawn ? Draw(input, row) : SampledRow());
    }
  }
  previous_rows_ = output.rows;
  if (faults.wait_throws && faults.wait_throws(input)) throw std::runtime_error("wait");
  output.input = std::move(input);
  return output;
}

}  // namespace modu::engine
