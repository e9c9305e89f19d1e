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

}  // namespace

void BuildStepPacket(uint64_t step, const StepPlan& plan, int32_t block_size, int num_groups,
                     ForwardInput* input, std::vector<LaunchedChunk>* launched) {
  launched->clear();
  launched->reserve(plan.chunks.size());
  input->step = step;
  input->token_ids.reserve(plan.num_tokens);
  input->positions.reserve(plan.num_tokens);
  input->cu_seqlens.reserve(plan.chunks.size() + 1);
  input->seq_lens.reserve(plan.chunks.size());
  input->sample_rows.reserve(plan.chunks.size());
  input->groups.resize(num_groups);
  for (GroupInput& group : input->groups) group.slot_mapping.reserve(plan.num_tokens);
  input->cu_seqlens.push_back(0);
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.sequence->state != SequenceState::kRunning) continue;
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
  }
  for (int g = 0; g < num_groups; ++g) {
    GroupInput& group = input->groups[g];
    int32_t stride = 0;
    for (const LaunchedChunk& mark : *launched) {
      stride = std::max(stride, static_cast<int32_t>(mark.sequence->kv.tables[g].ids().size()));
    }
    group.block_table_stride = stride;
    group.block_table.reserve(launched->size() * stride);
    for (size_t s = 0; s < launched->size(); ++s) {
      const auto ids = (*launched)[s].sequence->kv.tables[g].ids();
      group.block_table.insert(group.block_table.end(), ids.begin(), ids.end());
      group.block_table.resize((s + 1) * stride);
    }
  }
}

}  // namespace modu::engine
