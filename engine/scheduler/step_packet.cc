#include "engine/scheduler/step_packet.h"

#include <algorithm>

#include "kernels/check.h"

namespace modu::engine {
namespace {

void AddSampleRows(uint64_t step, const PlannedChunk& chunk, int32_t first_row_of_batch,
                   ForwardInput* input, LaunchedChunk* launched) {
  Sequence& sequence = *chunk.sequence;
  const SamplingParams& params = sequence.request.sampling;
  launched->first_row = static_cast<int32_t>(input->sample_rows.size());
  const int32_t certain = chunk.num_tokens - chunk.num_drafts;
  const int32_t end = chunk.first + certain;
  if (sequence.next_prompt_logprob > 0) {
    // Position p's logits are about token p + 1.
    const int32_t first = sequence.next_prompt_logprob;
    const int32_t last = std::min(end, sequence.num_prompt - 1);
    launched->first_prompt_token = first;
    for (int32_t target = first; target <= last; ++target) {
      MODU_CHECK(target - 1 >= chunk.first);
      SampleRow row;
      row.token_row = first_row_of_batch + target - 1 - chunk.first;
      row.target_id = sequence.tokens[target];
      row.top_logprobs = params.prompt_logprobs;
      input->sample_rows.push_back(row);
    }
    launched->num_prompt_rows = std::max(0, last - first + 1);
    sequence.next_prompt_logprob += launched->num_prompt_rows;
  }
  if (chunk.samples) {
    sequence.sampled_in_step = step;
    sequence.sampled_in_row = static_cast<int32_t>(input->sample_rows.size());
    for (int32_t i = 0; i <= chunk.num_drafts; ++i) {
      SampleRow row;
      row.token_row = first_row_of_batch + certain - 1 + i;
      row.slot = sequence.slot;
      row.position = sequence.num_sampled + i;
      row.mask_stop = row.position < params.min_tokens;
      row.top_logprobs = params.top_logprobs;
      row.after_draft = i > 0;
      input->sample_rows.push_back(row);
    }
    ++sequence.num_sampled;
  }
}

void AddTokens(const PlannedChunk& chunk, int32_t block_size, ForwardInput* input) {
  const Sequence& sequence = *chunk.sequence;
  const int32_t known = static_cast<int32_t>(sequence.tokens.size());
  for (int32_t p = chunk.first; p < chunk.first + chunk.num_tokens; ++p) {
    const bool drafted = p >= chunk.first + chunk.num_tokens - chunk.num_drafts;
    input->token_ids.push_back(drafted     ? sequence.drafts[p - known]
                               : p < known ? sequence.tokens[p]
                                           : PreviousSample(sequence.sampled_in_row));
    input->positions.push_back(p);
  }
  for (size_t g = 0; g < input->groups.size(); ++g) {
    const auto ids = sequence.kv.tables[g].ids();
    for (int32_t p = chunk.first; p < chunk.first + chunk.num_tokens; ++p) {
      input->groups[g].slot_mapping.push_back(int64_t{ids[p / block_size]} * block_size +
                                              p % block_size);
    }
  }
  input->cu_seqlens.push_back(static_cast<int32_t>(input->token_ids.size()));
  input->seq_lens.push_back(chunk.first + chunk.num_tokens);
}

/// Blocks by which a table's rows grow, so that they are not laid out anew whenever the longest
/// sequence gets one more.
constexpr int32_t kStrideStep = 64;

/// Only what has changed since the packet was last filled, as long as the same sequences come in
/// the same order: hundreds of long ones have megabytes of tables, to which a step adds a few
/// blocks.
void FillBlockTable(const std::vector<LaunchedChunk>& launched, int g, GroupInput* group) {
  int32_t longest = 0;
  for (const LaunchedChunk& mark : launched) {
    longest = std::max(longest, mark.sequence->kv.tables[g].size());
  }
  const int32_t stride = (longest + kStrideStep - 1) / kStrideStep * kStrideStep;
  if (stride > group->block_table_stride || stride < group->block_table_stride / 2) {
    group->block_table = std::vector<int32_t>();  // its memory too
    group->rows.clear();
    group->block_table_stride = stride;
  }
  group->block_table.resize(launched.size() * static_cast<size_t>(group->block_table_stride));
  group->rows.resize(launched.size());
  for (size_t s = 0; s < launched.size(); ++s) {
    const Sequence& sequence = *launched[s].sequence;
    const BlockTable& table = sequence.kv.tables[g];
    const bool appended = group->rows[s].sequence == sequence.order &&
                          group->rows[s].epoch == sequence.epoch &&
                          table.num_held() == table.size();  // else the first ones change too
    const int32_t kept = appended ? group->rows[s].num_blocks : 0;
    int32_t* const row = group->block_table.data() + s * group->block_table_stride;
    std::ranges::copy(table.ids().subspan(kept), row + kept);
    if (group->rows[s].num_blocks > table.size()) {
      std::fill(row + table.size(), row + group->rows[s].num_blocks, 0);
    }
    group->rows[s] = {sequence.order, sequence.epoch, table.size()};
  }
}

void Clear(ForwardInput* input) {
  input->token_ids.clear();
  input->positions.clear();
  input->cu_seqlens.clear();
  input->seq_lens.clear();
  input->sample_rows.clear();
  input->least_tokens = 0;
  for (GroupInput& group : input->groups) group.slot_mapping.clear();
}

}  // namespace

void BuildStepPacket(uint64_t step, const StepPlan& plan, int32_t block_size, int num_groups,
                     ForwardInput* input, std::vector<LaunchedChunk>* launched) {
  launched->clear();
  launched->reserve(plan.chunks.size());
  Clear(input);
  input->step = step;
  input->token_ids.reserve(plan.num_tokens);
  input->positions.reserve(plan.num_tokens);
  input->cu_seqlens.reserve(plan.chunks.size() + 1);
  input->seq_lens.reserve(plan.chunks.size());
  input->sample_rows.reserve(plan.chunks.size());
  input->groups.resize(num_groups);
  for (GroupInput& group : input->groups) group.slot_mapping.reserve(plan.num_tokens);
  input->cu_seqlens.push_back(0);
  const auto add = [&](const PlannedChunk& chunk) {
    const int32_t first_row = static_cast<int32_t>(input->token_ids.size());
    AddTokens(chunk, block_size, input);  // before the rows: it feeds what the last step draws
    LaunchedChunk& mark = launched->emplace_back();
    mark.sequence = chunk.sequence;
    mark.epoch = chunk.sequence->epoch;
    mark.end = chunk.first + chunk.num_tokens - chunk.num_drafts;
    mark.samples = chunk.samples;
    mark.num_drafts = chunk.num_drafts;
    AddSampleRows(step, chunk, first_row, input, &mark);
    ++chunk.sequence->num_in_flight;
  };
  for (const bool generated : {true, false}) {
    for (const PlannedChunk& chunk : plan.chunks) {
      if (chunk.sequence->state != SequenceState::kRunning) continue;
      if (chunk.generated() == generated) add(chunk);
    }
    if (generated) input->num_generated_seqs = static_cast<int32_t>(launched->size());
  }
  for (int g = 0; g < num_groups; ++g) FillBlockTable(*launched, g, &input->groups[g]);
}

}  // namespace modu::engine
