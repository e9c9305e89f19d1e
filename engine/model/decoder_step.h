#pragma once
#include <atomic>
#include <cstdint>
#include <span>

namespace modu::engine {

/// One step as flat arrays; the names are ForwardInput's. All ids are tokens, in [0, vocab_size).
struct DecoderStep {
  int num_tokens = 0, num_seqs = 0;
  int num_generated_seqs = 0;  // the first ones', whose rows are generated tokens; else prompts'
  const int32_t* token_ids = nullptr;     // [T]
  const int32_t* positions = nullptr;     // [T]
  const int32_t* cu_seqlens = nullptr;    // [S+1]
  const int32_t* seq_lens = nullptr;      // [S]
  const int64_t* slot_mapping = nullptr;  // [T]
  const int32_t* block_table = nullptr;   // [S, block_table_stride]
  int block_table_stride = 0;
  uint64_t number = 0;                   // Device::NextStep's; set by LayerStack
  std::span<const int32_t> output_rows;  // rows of the T that SelectRows may ask for, in any order
  /// Of a step of one sequence: once it is true, rows may be left out that would take longer than
  /// these so many take through all layers; null: all rows are computed.
  const std::atomic<bool>* arrived = nullptr;
  int least_tokens = 0;
};

}  // namespace modu::engine
